"""The generated results of README.md: the quickstart's score, and one table of all that was measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from b2t_cli.tables import markdown_table
from claims import tables
from claims.evidence import RESULTS, Evidence
from claims.study import tables as tables_study
from claims.study.records import Record

from . import tables_cpus

ROOT = Path(__file__).resolve().parents[2]
CURVES = "rates.svg"
"""The figure of the study's learning-rate curves, once there are some."""
QUICKSTART = "docs/results/quickstart_grammar.md"
MULTI30K = "docs/results/quickstart_multi30k.md"


def quickstart_score() -> str:
    """Return the end of the quickstart's output, its scores, with the time that it took."""
    output, about = _quickstart(QUICKSTART)
    scores = [line for line in output.splitlines() if re.match(r"BLEU|chrF2", line)]
    return "\n".join(["```", *scores, "```", "", about])


def results_table(evidence: Evidence, done: Sequence[Record]) -> str:
    """Return a row for each kind of result: what was measured, the result, and the page that has all of it.

    Args:
        evidence: the numbers of the claims.
        done: the runs of the study.
    """
    time = _quickstart(MULTI30K)[1].split(".")[0]
    rows = [
        [f"Multi30k, 29,000 captions; {time}", f"BLEU {_bleu(MULTI30K)}", _page("runs", "Quickstart")],
        *(
            [
                f"One core {name}: times as fast as fairseq",
                tables_cpus.ratios(kind),
                _page("speed", "Both kinds of processor"),
            ]
            for kind, name in tables_cpus.KINDS.items()
        ),
    ]
    verdicts = Counter(verdict for _, _, verdict, _ in tables.verdicts(evidence, done))
    counts = ", ".join(f"{verdict}: {count}" for verdict, count in verdicts.most_common())
    rows.append([f"{verdicts.total()} claims, most of them from the papers", counts, _page("results", "Verdicts")])
    table = markdown_table(["what", "result", "page"], rows, "lll")
    if not (RESULTS / CURVES).is_file():
        return table
    figure = f"![Loss against learning rate, 18-18 and 6-6 layers](claims/results/{CURVES})"
    so_far = f"The [study](docs/results.md#the-study) with tuned learning rates: {tables_study.so_far(done)}."
    return f"{table}\n\n{figure}\n\n{so_far}"


def _quickstart(name: str) -> tuple[str, str]:
    """Return what a quickstart printed, and the sentence below it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    _, output, about = text.split("```")
    return output, about.strip()


def _bleu(name: str) -> str:
    """Return the BLEU score that a quickstart printed."""
    return re.search(r"^BLEU\|.* = ([\d.]+)$", _quickstart(name)[0], flags=re.MULTILINE)[1]


def _page(name: str, title: str) -> str:
    return f"[{name}](docs/{name}.md#{title.lower().replace(' ', '-')})"

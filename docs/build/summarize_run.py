"""Print, as Markdown, the scores of a run of scripts/train.sh and scripts/evaluate.sh, and what it was trained on.

python -m docs.build.summarize_run RUN [--note TEXT] > docs/results/NAME.md

Call it on the machine that trained the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from b2t_cli.machine import cores
from b2t_cli.runs.noted import data_folder
from b2t_cli.runs.run import Run, read_all
from b2t_cli.tables import markdown_table
from b2t_common.errors import InputError


def summary(folder: Path, note: str) -> str:
    """Return the table of scores and, below it, a sentence about the text, the model and the training.

    Args:
        folder: the run's folder.
        note: what else the machine was doing; may be empty.

    Raises:
        InputError: the run has no log or no scores.
    """
    (run,) = read_all([folder])
    scores = run.scores
    if scores is None:
        raise InputError(f"{folder} has no scores; make them with: bash scripts/evaluate.sh {folder}")
    names = list(scores["sets"])
    rows = []
    for metric, average in scores["average"].items():
        values = [scores["sets"][name]["metrics"][metric]["score"] for name in names] + [average]
        rows.append([metric, *(f"{value:.2f}" for value in values)])
    header = ["metric", *(name.removeprefix("newstest") for name in names), "average"]
    table = markdown_table(header, rows, "l" + "r" * (len(header) - 1))
    signatures = {f"`{m}|{r['signature']}`" for s in scores["sets"].values() for m, r in s["metrics"].items()}
    about = (
        f"{_pairs(folder)}, {scores['parameters']:,} parameters, {run.updates():,} updates in {duration(run, note)}."
    )
    return f"{table}\n\n{about} {', '.join(sorted(signatures))}"


def duration(run: Run, note: str) -> str:
    """Return the minutes of training, the machine and the note, as part of a sentence."""
    minutes = f"{run.training_seconds() / 60:.0f} minutes on {cores()}"
    return "; ".join(filter(None, (minutes, note)))


def summary_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of a run's folder and of ``--note``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    return parser


def _pairs(folder: Path) -> str:
    """Return how many sentence pairs were left of all after cleaning, as part of a sentence."""
    corpora = json.loads((data_folder(folder).parent / "clean/train.json").read_text(encoding="utf-8")).values()
    kept, pairs = (sum(counts[key] for counts in corpora) for key in ("kept", "pairs"))
    return f"{kept:,} of {pairs:,} pairs"


def main() -> None:
    args = summary_parser(__doc__).parse_args()
    try:
        print(summary(args.run, args.note))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

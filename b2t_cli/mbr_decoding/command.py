"""What ``b2t mbr`` does: reads candidates, chooses, writes, and says what the choice has changed."""

from __future__ import annotations

import argparse
import operator
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from statistics import mean

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.bleu import BLEUScore

from b2t_common.files import messages_beside, write_lines

from ..progress import SECONDS_BETWEEN_REPORTS, progress_line
from ..tables import Table, number
from .candidates import read_candidates
from .utilities import metric_of, of_sentences


def run(args: argparse.Namespace) -> None:
    """Choose and write.

    Args:
        args: the arguments of the command.

    Raises:
        InputError: outputs and texts do not belong together, or the model of COMET is missing.
    """
    sentences, source, references = read_candidates(args.generated, args.source, args.reference)
    expected, signature = _utilities(args, sentences, source)
    utilities = list(_with_progress(expected, len(sentences)))
    # of equal utilities the first one, which a beam search puts before the others
    best = [values.index(max(values)) for values in utilities]
    chosen = [lines[index] for lines, index in zip(sentences, best, strict=True)]
    write_lines(args.output, chosen)
    metrics: list[BLEU | CHRF] = [BLEU(), CHRF()] if references else []
    first = [lines[0] for lines in sentences]
    rows = []
    for title, lines, values in (
        ("first candidate", first, [values[0] for values in utilities]),
        ("MBR", chosen, [max(values) for values in utilities]),
    ):
        scores = [metric.corpus_score(lines, [references]) for metric in metrics]
        ratio = [number(score.ratio) for score in scores if isinstance(score, BLEUScore)]
        rows.append([title, f"{mean(values):.4g}", *(number(score.score) for score in scores), *ratio])
    notes = [
        f"{len(sentences):,} sentences with {mean(map(len, sentences)):.1f} candidates, "
        f"{mean(len(set(lines)) for lines in sentences):.1f} of them different; "
        f"MBR changes {sum(map(operator.ne, first, chosen)):,} sentences",
        f"utility: {signature}",
        *(f"{score.name}|{metric.get_signature()}" for score, metric in zip(scores, metrics, strict=True)),
    ]
    header = ["", "expected utility", *(score.name for score in scores), *(["length ratio"] if scores else [])]
    table = Table(f"MBR by {args.utility}: {', '.join(map(str, args.generated))}", header, rows, notes)
    print(table.text(), file=messages_beside(args.output))


def _utilities(
    args: argparse.Namespace, sentences: Sequence[Sequence[str]], source: Sequence[str]
) -> tuple[Iterable[Sequence[float]], str]:
    """Return the expected utilities by sentence, and the signature of the utility."""
    if args.utility == "comet":
        from ..scoring import comet

        model = comet.load(args.comet_model or "")
        return model.expected_utilities(source, sentences), f"COMET|{model.signature}"
    workers = args.workers or len(os.sched_getaffinity(0))
    metric = metric_of(args.utility)
    # a signature needs to know the number of references
    name = metric.sentence_score("a", ["a"]).name
    return of_sentences(sentences, args.utility, workers), f"{name} of sentences|{metric.get_signature()}"


def _with_progress(values: Iterable[Sequence[float]], total: int) -> Iterator[list[float]]:
    begin = reported = time.monotonic()
    for done, one in enumerate(values, 1):
        yield list(one)
        now = time.monotonic()
        if done == total or now - reported > SECONDS_BETWEEN_REPORTS:
            reported = now
            print(progress_line(done, total, "sentences", 0, now - begin), file=sys.stderr, flush=True)

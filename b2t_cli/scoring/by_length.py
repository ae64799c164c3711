"""BLEU and chrF by the length of the source sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from b2t_common.errors import InputError

from ..tables import Table, number

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

BOUNDS = (10, 20, 30, 40, 50)
"""The largest number of words in each group of sentences but the last."""


def parse_bounds(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as ``10,20,30``; an empty text means ``BOUNDS``.

    Raises:
        InputError: they are no ascending positive numbers.
    """
    if not text:
        return BOUNDS
    parts = text.split(",")
    bounds = tuple(int(part) for part in parts if part.strip().isdecimal())
    if len(bounds) < len(parts) or bounds[0] < 1 or list(bounds) != sorted(set(bounds)):
        raise InputError(f"--by-length {text}: give ascending numbers of words, as in 10,20,30")
    return bounds


def group_by_length(sources: Sequence[str], bounds: Sequence[int] = BOUNDS) -> dict[str, list[int]]:
    """Return the numbers of the sentences in each group that has some, by the group's name, shortest first.

    Args:
        sources: the source sentences.  Their length is the number of words between spaces.
        bounds: the largest length of each group but the last, ascending.
    """
    groups: dict[int, list[int]] = {group: [] for group in range(len(bounds) + 1)}
    for sentence, source in enumerate(sources):
        length = len(source.split())
        groups[sum(length > bound for bound in bounds)].append(sentence)
    return {_name(group, bounds): sentences for group, sentences in groups.items() if sentences}


def score_by_length(
    hypotheses: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    bounds: Sequence[int] = BOUNDS,
    metrics: Sequence[Metric] = (),
) -> list[dict[str, Any]]:
    """Return the scores of each group of sentences, shortest first; groups without sentences are left out.

    Args:
        hypotheses: the translations, detokenized.
        references: the reference translations.
        sources: the source sentences.
        bounds: as :func:`group_by_length` takes them.
        metrics: BLEU and chrF of sacreBLEU, if not with their defaults.
    """
    from sacrebleu.metrics import BLEU, CHRF

    bleu_metric, chrf_metric = metrics or (BLEU(), CHRF())
    rows = []
    for words, sentences in group_by_length(sources, bounds).items():
        ours, theirs = ([lines[sentence] for sentence in sentences] for lines in (hypotheses, references))
        bleu, chrf = (metric.corpus_score(ours, [theirs]) for metric in (bleu_metric, chrf_metric))
        row = {"words": words, "sentences": len(sentences)}
        rows.append({**row, "BLEU": bleu.score, "chrF2": chrf.score, "length_ratio": bleu.ratio})
    return rows


def build_table(rows: Sequence[dict[str, Any]], of: str = "") -> Table:
    """Return the table of what :func:`score_by_length` has returned; ``of`` says in the title what was scored."""
    return Table(
        f"Scores{of and f' of {of}'} by the number of words of the source",
        ["words", "sentences", "BLEU", "chrF2", "length ratio"],
        [
            [row["words"], f"{row['sentences']:,}", *(number(row[key]) for key in ("BLEU", "chrF2", "length_ratio"))]
            for row in rows
        ],
        ["length ratio: tokens of all translations, divided by those of the references"],
    )


def _name(group: int, bounds: Sequence[int]) -> str:
    if group == len(bounds):
        return f"over {bounds[-1]}"
    return f"{bounds[group - 1] + 1 if group else 0}-{bounds[group]}"

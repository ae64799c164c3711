"""Utilities: how good a candidate is if another one is the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

_PER_TASK = 8  # sentences that a process gets at once


def metric_of(utility: str) -> Metric:
    """Return sacreBLEU's metric for single sentences: ``chrf`` or ``bleu``."""
    return CHRF() if utility == "chrf" else BLEU(effective_order=True)


def expected_utilities(candidates: Sequence[str], metric: Metric) -> list[float]:
    """Return the expected utility of each candidate of a sentence.

    That of candidate h is ``sum_r u(h, r) / n`` over all n candidates r, itself included, where ``u(h, r)`` is
    sacreBLEU's score of sentence h with the reference r.

    Args:
        candidates: the candidates; one that is there twice counts twice as a reference.
        metric: the metric.
    """
    counts = Counter(candidates)
    # the n-grams of a reference are extracted once, which sacreBLEU's own sentence_score does for each pair
    references = metric._cache_references([list(counts)])
    expected = {}
    for hypothesis in counts:
        prepared = metric._preprocess_segment(hypothesis)
        total = 0.0
        for reference, count in zip(references, counts.values(), strict=True):
            statistics = metric._compute_segment_statistics(prepared, reference)
            total += count * metric._aggregate_and_compute([statistics]).score
        expected[hypothesis] = total / len(candidates)
    return [expected[candidate] for candidate in candidates]


_metric: Metric


def _use(utility: str) -> None:
    global _metric
    _metric = metric_of(utility)


def _of_sentence(candidates: Sequence[str]) -> list[float]:
    return expected_utilities(candidates, _metric)


def of_sentences(sentences: Sequence[Sequence[str]], utility: str, workers: int) -> Iterator[list[float]]:
    """Yield the expected utilities of the candidates of each sentence, in order, computed by several processes."""
    if workers == 1:
        _use(utility)
        yield from map(_of_sentence, sentences)
        return
    with get_context("fork").Pool(workers, _use, (utility,)) as pool:
        yield from pool.imap(_of_sentence, sentences, _PER_TASK)

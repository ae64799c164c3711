"""The statistics of the study's verdicts: paired differences, Holm's correction, intervals of counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import NamedTuple

LEVEL = 0.05
"""Intervals are of 1 - LEVEL, and a p-value below it counts."""


class Paired(NamedTuple):
    """The mean of paired differences, its interval by Student's t, and the two-sided p-value of 0."""

    mean: float
    low: float
    high: float
    p_value: float


def paired(differences: Sequence[float]) -> Paired:
    """Return what differences of pairs say about their mean.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(differences) < 2:
        raise ValueError(f"{len(differences)} difference(s) have no interval; at least two are needed")
    freedom = len(differences) - 1
    center, error = mean(differences), stdev(differences) / math.sqrt(len(differences))
    half = _bisect(lambda t: inside_t(t, freedom) - (1 - LEVEL), 0.0, 1e4) * error
    # without any spread, 0 is either the mean or impossible
    t = abs(center) / error if error else math.inf if center else 0.0
    return Paired(center, center - half, center + half, 1 - inside_t(t, freedom))


def inside_t(t: float, freedom: int) -> float:
    """Return the probability that Student's t lies between ``-t`` and ``t`` (Abramowitz and Stegun 26.7.3, 26.7.4).

    Args:
        t: not negative.
        freedom: degrees of freedom.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * step / (step + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values with Holm's correction for their number, in the same order."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def clopper_pearson(count: int, total: int) -> tuple[float, float]:
    """Return the exact interval of a probability, given how often something happened in ``total`` independent runs."""

    def at_most(successes: int, probability: float) -> float:
        terms = (math.comb(total, k) * probability**k * (1 - probability) ** (total - k) for k in range(successes + 1))
        return sum(terms)

    low = 0.0 if count == 0 else _bisect(lambda p: 1 - at_most(count - 1, p) - LEVEL / 2, 0.0, 1.0)
    high = 1.0 if count == total else _bisect(lambda p: LEVEL / 2 - at_most(count, p), 0.0, 1.0)
    return low, high


def _bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function is zero."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2

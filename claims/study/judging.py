"""From the study's records to verdicts, by the rules in README.md, which were written before the first run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

from b2t_cli.reporting.tuning import Tuned
from claims.study import grid, records
from claims.study.grid import MORE_UPDATES, SEEDS, UPDATES, WORD_SEEDS, WORD_UPDATES, WORDS, Model
from claims.study.records import Record
from claims.study.statistics import LEVEL, Paired, clopper_pearson, holm, paired
from claims.verdicts import FAILS, HOLDS, OPEN

NOT_RUN, EQUAL, NO_REWARD = "not run yet", "equal", "this setting does not reward depth"
DIFFERENCE = 0.03
"""Losses that differ by less than this, in bits, are equal."""
LONG = range(17, 33)
"""The lengths of words that count."""
POINTS = 0.05
"""The difference in exact matches that counts."""


class Judgement(NamedTuple):
    """A verdict, the one number that it follows from, and more about it."""

    verdict: str
    number: str
    details: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two models, each at its own best rate.

    Attributes:
        ours: the model that is said to be better.
        theirs: the other one.
        our_updates: how long the first one is trained.
        their_updates: how long the other one is trained.
    """

    ours: Model
    theirs: Model
    our_updates: int = UPDATES
    their_updates: int = UPDATES

    def differences(self, done: Sequence[Record]) -> list[float] | None:
        """Return our loss minus theirs with each seed, ``None`` if a run is missing that they need."""
        ours, theirs = best_runs(done, self.ours, self.our_updates), best_runs(done, self.theirs, self.their_updates)
        if ours is None or theirs is None:
            return None
        return [ours[seed] - theirs[seed] for seed in SEEDS]

    @property
    def text(self) -> str:
        """Which models are compared."""
        updates = "" if self.our_updates == self.their_updates else f" with {self.their_updates:,} updates"
        return f"{self.ours.label} minus {self.theirs.label}{updates}"


class Outcome(NamedTuple):
    """What a comparison has shown: our model is better, worse, equal, or it is not decided; ``None`` if not run."""

    better: bool
    worse: bool
    equal: bool
    difference: Paired


def best_runs(done: Sequence[Record], model: Model, updates: int = UPDATES) -> dict[int, float] | None:
    """Return the losses of a model at its best rate by seed, ``None`` unless all seeds are run and the rate is known.

    A model that fails with every rate has infinite losses.
    """
    rates = grid.rates_of(model)
    by_rate = records.losses(done, model.name, UPDATES)
    if not {*map(float, rates)} <= by_rate.keys():
        return None
    if not any(math.isfinite(loss) for seeds in by_rate.values() for loss in seeds):
        return dict.fromkeys(SEEDS, math.inf)
    rate = grid.best_rate(model, rates, done)
    runs = records.of(done, model.name, updates)
    losses = {one["seed"]: records.loss(one) for one in runs if one["rate"] == rate}
    return losses if rate and losses.keys() >= {*SEEDS} else None


def outcome(differences: Sequence[float], corrected: float) -> Outcome:
    """Return what paired differences show (rule 3).

    Args:
        differences: our losses minus theirs, in bits.
        corrected: the p-value with Holm's correction.
    """
    if not all(map(math.isfinite, differences)):
        # one of the models does not train; where neither does, nothing is better
        known = [difference for difference in differences if not math.isnan(difference)]
        better = bool(known) and max(known) < 0
        worse = bool(known) and min(known) > 0
        value = -math.inf if better else math.inf if worse else math.nan
        return Outcome(better, worse, False, Paired(value, value, value, corrected))
    result = paired(differences)
    decided = corrected < LEVEL and not result.low <= 0 <= result.high and abs(result.mean) >= DIFFERENCE
    equal = result.low >= -DIFFERENCE and result.high <= DIFFERENCE
    return Outcome(decided and result.mean < 0, decided and result.mean > 0, equal and not decided, result)


def outcomes(done: Sequence[Record], comparisons: Sequence[Comparison]) -> dict[Comparison, Outcome | None]:
    """Return the outcomes of all comparisons of a paper, corrected for their number; ``None`` where runs are missing.

    A comparison that is not run counts with the p-value 1.  So what is decided stays decided when it is run.
    """
    differences = {comparison: comparison.differences(done) for comparison in comparisons}
    p_values = [_p_value(values) for values in differences.values()]
    return {
        comparison: None if values is None else outcome(values, corrected)
        for (comparison, values), corrected in zip(differences.items(), holm(p_values), strict=True)
    }


def _p_value(differences: Sequence[float] | None) -> float:
    if differences is None:
        return 1.0
    return paired(differences).p_value if all(map(math.isfinite, differences)) else 0.0


def shown(comparison: Comparison, result: Outcome | None) -> str:
    """Return the outcome of a comparison in words."""
    if result is None:
        return f"{comparison.text}: {NOT_RUN}"
    center, low, high, p_value = result.difference
    if not math.isfinite(center):
        return f"{comparison.text}: " + ("the second one does not train" if center < 0 else "does not train")
    return f"{comparison.text}: {center:+.3f} bits ({low:+.3f} to {high:+.3f}), p = {p_value:.3f} before correction"


def number(result: Outcome | None) -> str:
    """Return the mean difference of a comparison, ``-`` if it is not run."""
    if result is None:
        return "-"
    return f"{result.difference.mean:+.3f} bits" if math.isfinite(result.difference.mean) else "one does not train"


def combined(answers: Sequence[bool | None], missing: bool) -> str:
    """Return the verdict on a claim of several parts: it holds if all do, and does not hold if one does not.

    Args:
        answers: for each part whether it holds, ``None`` where that is not decided.
        missing: whether a run is missing that a part needs.
    """
    if False in answers:
        return FAILS
    if missing:
        return NOT_RUN
    return OPEN if None in answers else HOLDS


def answer(result: Outcome | None, or_equal: bool = False) -> bool | None:
    """Say whether our model is better, ``None`` if that is not decided.

    Args:
        result: the outcome.
        or_equal: whether an equal one is good enough.
    """
    if result is None:
        return None
    if result.better or (or_equal and result.equal):
        return True
    return False if result.worse or (result.equal and not or_equal) else None


@dataclass(frozen=True)
class Curve:
    """A model's learning-rate curve, as far as it is run.

    Attributes:
        model: the model.
        losses: the losses with the first seed at each rate that was run, infinite where the run failed.
        tuned: the model at the best of them, ``None`` if nothing is run or every run failed.
        complete: whether all rates of the grid are run, so that there may be a best one.
        runs: all runs with ``UPDATES`` updates, whatever their seed.
    """

    model: Model
    losses: dict[float, list[float]]
    tuned: Tuned | None
    complete: bool
    runs: list[Record]

    @property
    def inside(self) -> bool:
        """Whether the best rate is known: the curve is complete, and the rate is not at its edge."""
        return self.complete and self.tuned is not None and not self.tuned.at_edge

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(not math.isfinite(records.loss(one)) for one in self.runs)

    def at_best(self) -> list[Record]:
        """Return the runs at the best rate, sorted by seed."""
        if self.tuned is None:
            return []
        runs = [one for one in self.runs if float(one["rate"]) == self.tuned.best]
        return sorted(runs, key=lambda one: one["seed"])


def curve(done: Sequence[Record], model: Model) -> Curve:
    """Return the learning-rate curve of a model."""
    losses = records.losses(done, model.name, UPDATES)
    complete = {*map(float, grid.rates_of(model))} <= losses.keys()
    tuned = records.tuned(done, model.name, UPDATES)
    return Curve(model, losses, tuned, complete, records.of(done, model.name, UPDATES))


def count(failed: int, total: int) -> str:
    """Return how many of some runs failed, and the interval of the probability to fail."""
    low, high = clopper_pearson(failed, total)
    return f"{failed} of {total} ({low:.0%} to {high:.0%})"


def trains(done: Sequence[Record], model: Model) -> bool | None:
    """Say whether a model trains at some rate, ``None`` as long as one of the rates could still be it (rule 2)."""
    one = curve(done, model)
    if any(math.isfinite(loss) for seeds in one.losses.values() for loss in seeds):
        return True
    return False if one.complete else None


def long_words(done: Sequence[Record], model: Model) -> dict[int, float] | None:
    """Return the mean exact match on long words at the better rate by seed, ``None`` if a run is missing (rule 5)."""
    by_rate: dict[str, dict[int, float]] = {}
    for one in records.of(done, model.name, WORD_UPDATES, WORDS):
        share = mean(one["exact"][str(length)] for length in LONG) if one.get("exact") else 0.0
        by_rate.setdefault(one["rate"], {})[one["seed"]] = share
    if by_rate.keys() != {*grid.WORD_RATES} or any(seeds.keys() != {*WORD_SEEDS} for seeds in by_rate.values()):
        return None
    return max(by_rate.values(), key=lambda seeds: mean(seeds.values()))


def words_better(done: Sequence[Record], ours: Model, theirs: Model) -> tuple[bool | None, float] | None:
    """Say whether a model finds more products of long words than another one, and by how much; ``None`` if not run."""
    one, other = long_words(done, ours), long_words(done, theirs)
    if one is None or other is None:
        return None
    differences = [one[seed] - other[seed] for seed in WORD_SEEDS]
    decided = min(differences) >= POINTS or max(differences) <= -POINTS
    return (differences[0] > 0 if decided else None), mean(differences)


def longer(done: Sequence[Record], model: Model) -> float | None:
    """Return the loss of a model after ``MORE_UPDATES`` updates, ``None`` if it is not run."""
    runs = records.of(done, model.name, MORE_UPDATES)
    return records.loss(runs[0]) if runs else None

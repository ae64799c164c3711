"""What the losses at several values of a setting, such as learning rates, say about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

WINDOW = 0.1
"""A value counts as nearly as good as the best one if its loss is at most this many bits higher."""


@dataclass(frozen=True)
class Tuned:
    """A model at its best value of a setting.

    Attributes:
        losses: the mean loss over the runs with each value, by ascending value, infinite where a run failed.
        best: the value with the lowest loss.
        window: the lowest and the highest of the values next to the best one, without a gap, whose loss is at most
            ``WINDOW`` bits higher.
        sensitivity: how far a run is on average above the best loss, in bits, see :func:`sensitivity`.
    """

    losses: dict[float, float]
    best: float
    window: tuple[float, float]
    sensitivity: float

    @property
    def loss(self) -> float:
        """The lowest loss."""
        return self.losses[self.best]

    @property
    def at_edge(self) -> str:
        """The end of the grid at which the best value lies, ``"lowest"`` or ``"highest"``; empty inside the grid."""
        values = list(self.losses)
        return "lowest" if self.best == values[0] else "highest" if self.best == values[-1] else ""


def tune(runs: Mapping[float, Sequence[float]], initial: float) -> Tuned | None:
    """Return a model at its best value, ``None`` if at every value a run failed.

    Args:
        runs: the last validation losses in bits of the runs with each value, infinite for a run that failed.
        initial: the loss before training, in bits.
    """
    losses = {value: mean(runs[value]) for value in sorted(runs)}
    best = min(losses, key=lambda value: losses[value])
    if not math.isfinite(losses[best]):
        return None
    return Tuned(losses, best, _window(losses, best), sensitivity(list(losses.values()), initial))


def sensitivity(losses: Sequence[float], initial: float) -> float:
    """Return the sensitivity to the learning rate of Wortsman et al. (2023, arXiv 2309.14322, section 2.2).

    It is the mean over the grid of ``min(loss, initial) - best loss``: 0 if every rate is as good as the best one.  It
    depends on the grid, so only models with the same grid can be compared.

    Args:
        losses: the loss at each value of the grid, infinite where a run failed.
        initial: the loss before training, which no value counts as worse than.
    """
    capped = [min(loss, initial) for loss in losses]
    return mean(capped) - min(capped)


def _window(losses: Mapping[float, float], best: float) -> tuple[float, float]:
    values = list(losses)
    low = high = values.index(best)
    limit = losses[best] + WINDOW
    while low > 0 and losses[values[low - 1]] <= limit:
        low -= 1
    while high < len(values) - 1 and losses[values[high + 1]] <= limit:
        high += 1
    return values[low], values[high]

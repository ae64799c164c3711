"""From numbers to verdicts: what several seeds decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .evidence import SEEDS, Evidence

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided here"


def below(ours: Sequence[float], theirs: Sequence[float]) -> bool | None:
    """Say whether one sample is lower than another, ``None`` if that is not decided.

    It is decided if every value of one is below every value of the other.  With three and three of equal models chance
    does that once in ten times, once in twenty times in a given direction.  Fewer than three decide nothing.
    """
    if min(len(ours), len(theirs)) < SEEDS:
        return None
    if max(ours) < min(theirs):
        return True
    return False if min(ours) > max(theirs) else None


def better(evidence: Evidence, config: str, baseline: str) -> bool | None:
    """Say whether a configuration has the lower validation loss, and BLEU does not disagree; ``None``: undecided."""
    decided = below(evidence.losses(config), evidence.losses(baseline))
    if decided is None:
        return None
    differences = [one["difference"] for one in evidence.bootstrap(config, baseline)]
    if len(differences) < SEEDS:
        return None
    mean = sum(differences) / len(differences)
    return decided if (mean > 0) == decided else None


def verdict(answers: Iterable[bool | None]) -> str:
    """Return the verdict on a claim of several parts: it fails if one part does."""
    answers = list(answers)
    if False in answers:
        return FAILS
    return OPEN if None in answers or not answers else HOLDS


def always(flags: Sequence[bool]) -> bool | None:
    """Say whether something is so for every seed, ``None`` if it is for some of them, or if they are too few."""
    if len(flags) < SEEDS:
        return None
    return flags[0] if len(set(flags)) == 1 else None

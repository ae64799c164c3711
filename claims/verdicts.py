"""What several seeds decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from claims.evidence import SEEDS, Evidence

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided here"


def below(ours: Sequence[float], theirs: Sequence[float]) -> bool | None:
    """Say whether one sample is below another, ``None`` if that is not decided.

    It is decided if every value of one sample is below every value of the other.  If two models with three seeds each
    are in truth equal, chance decides it once in ten times, which is once in twenty times in a given direction.  Fewer
    than three seeds decide nothing.
    """
    if min(len(ours), len(theirs)) < SEEDS:
        return None
    if max(ours) < min(theirs):
        return True
    return False if min(ours) > max(theirs) else None


def better(evidence: Evidence, config: str, baseline: str) -> bool | None:
    """Say whether a configuration is better than its baseline, ``None`` if that is not decided.

    The validation loss decides it, unless the mean difference in BLEU disagrees.
    """
    decided = below(evidence.losses(config), evidence.losses(baseline))
    if decided is None:
        return None
    differences = [test["difference"] for test in evidence.bootstrap(config, baseline)]
    if len(differences) < SEEDS:
        return None
    mean = sum(differences) / len(differences)
    return decided if (mean > 0) == decided else None


def verdict(answers: Iterable[bool | None]) -> str:
    """Return the verdict on a claim of several parts: it holds if all parts hold, and fails if one part fails."""
    answers = list(answers)
    if False in answers:
        return FAILS
    return OPEN if None in answers or not answers else HOLDS


def unanimous(answers: Sequence[bool]) -> bool | None:
    """Return the answer that all seeds give, ``None`` if they contradict each other or are too few."""
    if len(answers) < SEEDS:
        return None
    return answers[0] if len(set(answers)) == 1 else None

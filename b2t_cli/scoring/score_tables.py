"""The table of ``b2t score`` for any test sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tables import Table
from .layout import newstest_score_table
from .own_layout import own_score_table


def score_table(runs: Sequence[dict[str, Any]], matching_only: bool = False) -> Table:
    """Return the scores of runs, with the papers' results below them.

    Args:
        runs: the content of ``scores.json`` of each run, all of them on the same kind of test sets.
        matching_only: show only those results of the papers that have the settings of a run.
    """
    return (own_score_table if has_own_sets(runs[0]) else newstest_score_table)(runs, matching_only)


def has_own_sets(run: dict[str, Any]) -> bool:
    """Return whether the scores of a run are on test sets that came with its data."""
    # earlier versions did not write it
    return run.get("own_test_sets", False)

"""Telling a diverged run from one that merely fluctuates."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .curves import Log

DIVERGED = "diverged"
"""What tables and pages call such a run."""

REPORTS = 10
"""A rise must last this many reports."""
SHARE = 0.1
"""... and this share of all updates."""
RISE = 1.0
"""Bits above the best smoothed loss: twice its perplexity."""
SMOOTHING = 5
"""Reports whose median is the smoothed loss."""
STUCK_UPDATES = 2000
"""Before so many updates a run may still be at the plateau that many runs leave."""
STUCK_FALL = 0.1
"""Bits by which the loss of a run that learns falls in the second half of its updates, at the least."""
BELOW_ZIPF = 1.0
"""Bits below a Zipfian unigram model that count as no better than it."""


class Divergence(NamedTuple):
    """From which update on, and how it shows."""

    update: int
    reason: str


def find(log: Log) -> Divergence | None:
    """Return where and how a run diverged, ``None`` if it did not.

    A run has diverged if, as its log stands,

    1. fairseq gave up after the last report, over gradients that are not finite or the minimum loss scale; or the last
       report has a loss or a gradient norm that is not finite.  A run that recovered, by itself or restarted from an
       earlier checkpoint, has finite reports after that.
    2. the training loss rose and stayed up: each report of the last 10 % of all updates, and at least 10 reports, are
       more than 1 bit (per target token: twice the perplexity) above the lowest smoothed loss, which is a median of 5
       reports.  One report below that line, and the run is not diverged.
    3. it never learned more than how frequent words are: after 2000 updates or more and 20 reports, the lowest smoothed
       loss is above that of a unigram model of Zipfian words, 1/2 log2 V + log2 ln V bits for V words, less 1 bit, and
       fell by less than 0.1 bits in the second half of the updates, which is after the learning rate's peak.  (Word r
       has the probability 1 / (r ln V).)  This needs the size of the dictionary, which fairseq logs.

    2 and 3 look at ``nll_loss``, which label smoothing does not raise, where the log has it.
    """
    curve = log.training()
    updates = curve["update"].astype(int)
    if log.gave_up:
        return Divergence(int(updates[-1]) if len(updates) else 0, f"fairseq gave up: {log.gave_up}")
    if not len(updates):
        return None
    for column, name in (("loss", "loss"), ("gnorm", "gradient norm")):
        start = _trailing(np.isposinf(curve[column]))
        if start < len(updates):
            return Divergence(int(updates[start]), f"the {name} is not finite")
    name = "loss" if np.isnan(curve["nll_loss"]).any() else "nll_loss"
    losses = curve[name]
    # the others the run recovered from
    finite = np.isfinite(losses)
    updates, losses = updates[finite], losses[finite]
    if len(losses) < 2 * REPORTS:
        return None
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(losses, SMOOTHING), axis=1)
    rates = np.nan_to_num(curve["lr"][finite])
    warm = updates[np.argmax(rates)] <= updates[-1] / 2
    return _risen(name, updates, losses, smooth) or (_stuck(name, updates, smooth, log.vocabulary) if warm else None)


def _trailing(flags: np.ndarray) -> int:
    """Return where the last stretch of true flags begins, their number if the last flag is false."""
    false = np.flatnonzero(~flags)
    return int(false[-1]) + 1 if len(false) else 0


def _risen(name: str, updates: np.ndarray, losses: np.ndarray, smooth: np.ndarray) -> Divergence | None:
    best = smooth.min()
    start = _trailing(losses > best + RISE)
    if len(losses) - start < REPORTS or updates[-1] - updates[start] < SHARE * updates[-1]:
        return None
    return Divergence(
        int(updates[start]),
        f"the training {name} rose from {best:.2f} to {np.median(losses[start:]):.2f} bits and stayed there",
    )


def _stuck(name: str, updates: np.ndarray, smooth: np.ndarray, vocabulary: int | None) -> Divergence | None:
    # for a few words the approximation means nothing
    if vocabulary is None or vocabulary < 100 or updates[-1] < STUCK_UPDATES:
        return None
    unigram = math.log2(vocabulary) / 2 + math.log2(math.log(vocabulary))
    updates = updates[SMOOTHING - 1 :]
    early = smooth[updates <= updates[-1] / 2]
    best = smooth.min()
    if best < unigram - BELOW_ZIPF or not len(early) or early.min() - best >= STUCK_FALL:
        return None
    start = int(np.argmax(smooth <= best + STUCK_FALL))
    return Divergence(
        int(updates[start]),
        f"the training {name} has stayed at {best:.2f} bits, no better than a unigram model of {vocabulary:,} words",
    )

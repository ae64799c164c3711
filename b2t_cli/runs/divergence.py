"""Which runs have diverged, and which only fluctuate."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .curves import Log

DIVERGED = "diverged"
"""What tables and pages call such a run."""

REPORTS = 10
"""A rise must last at least this many reports."""
SHARE = 0.1
"""A rise must last at least this share of all updates."""
RISE = 1.0
"""Bits above the lowest smoothed loss that count as a rise; one bit is twice the perplexity."""
SMOOTHING = 5
"""The smoothed loss is the median of this many reports."""
STUCK_UPDATES = 2000
"""A run with fewer updates may still be on the plateau at the beginning, which many runs leave."""
STUCK_FALL = 0.1
"""The loss of a run that learns falls by at least this many bits in the second half of its updates."""
BELOW_ZIPF = 1.0
"""A loss that is at most this many bits below that of a Zipfian unigram model counts as no better."""


class Divergence(NamedTuple):
    """The update at which a run diverged, and what in the log shows it."""

    update: int
    reason: str


def find(log: Log) -> Divergence | None:
    """Return where and how a run diverged, ``None`` if it did not.

    A run has diverged if one of these is true for its log:

    1. fairseq gave up after the last report, because of gradients that are not finite or of the minimum loss scale; or
       the last report has a loss or a gradient norm that is not finite.  A run that has recovered, without help or from
       an earlier checkpoint, has finite reports later.
    2. The training loss rose and did not fall again: each report of the last 10 % of all updates, and of at least 10
       reports, is more than 1 bit (per target token: twice the perplexity) above the lowest smoothed loss, which is a
       median of 5 reports.  If a single report is below that line, the run has not diverged.
    3. The model learned no more than the frequencies of words: after at least 2000 updates and 20 reports, the lowest
       smoothed loss is higher than the loss of a unigram model of Zipfian words minus 1 bit, and it fell by less than
       0.1 bits in the second half of the updates, which is after the peak of the learning rate.  For V words the loss
       of the unigram model is 1/2 log2 V + log2 ln V bits, as word r has the probability 1 / (r ln V).  The rule needs
       the size of the dictionary, which fairseq logs.

    Rules 2 and 3 use ``nll_loss``, which does not include label smoothing, if the log has it.
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
    # the run has recovered from reports that are not finite
    finite = np.isfinite(losses)
    updates, losses = updates[finite], losses[finite]
    if len(losses) < 2 * REPORTS:
        return None
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(losses, SMOOTHING), axis=1)
    peak = updates[np.argmax(np.nan_to_num(curve["lr"][finite]))]
    if risen := _risen(name, updates, losses, smooth):
        return risen
    return _stuck(name, updates, smooth, log.vocabulary) if peak <= updates[-1] / 2 else None


def _trailing(flags: np.ndarray) -> int:
    """Return the index from which on all flags are true, the number of flags if the last one is false."""
    false = np.flatnonzero(~flags)
    return int(false[-1]) + 1 if len(false) else 0


def _risen(name: str, updates: np.ndarray, losses: np.ndarray, smooth: np.ndarray) -> Divergence | None:
    """Apply rule 2 to the losses, ``(num_reports,)``."""
    best = smooth.min()
    start = _trailing(losses > best + RISE)
    if len(losses) - start < REPORTS or updates[-1] - updates[start] < SHARE * updates[-1]:
        return None
    return Divergence(
        int(updates[start]),
        f"the training {name} rose from {best:.2f} to {np.median(losses[start:]):.2f} bits and stayed there",
    )


def _stuck(name: str, updates: np.ndarray, smooth: np.ndarray, vocabulary: int | None) -> Divergence | None:
    """Apply rule 3 to the smoothed losses, ``(num_reports - SMOOTHING + 1,)``."""
    # the formula is an approximation for many words
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

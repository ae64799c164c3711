"""Which checkpoints of a run are its last or its best ones: what the files themselves say, not only their names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from b2t_common.errors import InputError
from b2t_common.run_folder import BEST_CHECKPOINT, CHECKPOINTS, KEPT_BEST, LAST_CHECKPOINT, NUMBERED_CHECKPOINTS
from b2t_fairseq import checkpoints

from ..arguments import require_positive

_FLAGS_THAT_KEEP = {"epochs": "--keep-last-epochs", "updates": "--save-interval-updates and --keep-interval-updates"}
_INTERVALS = {"epochs": "save_interval", "updates": "save_interval_updates"}
_WHY_MISSING = {
    "epochs": "they were deleted, or never written",
    "updates": "where an epoch ends, fairseq writes no checkpoint_*_*.pt, but checkpoint1.pt and so on unless "
    "--no-epoch-checkpoints is given",
}


class Progress(NamedTuple):
    """How far a run was when it wrote a checkpoint.

    Attributes:
        done: the number of updates, or of finished epochs; ``None`` if the file does not say it.
        interval: one checkpoint was written for each so many of them; ``None`` if the file does not say it.
    """

    done: int | None
    interval: int | None


def last_checkpoints(folder: Path, count: int, by: str = "epochs") -> list[Path]:
    """Return the last ``count`` checkpoints of a run, oldest first.

    ``checkpoint_last.pt`` says how far the run is and at which intervals it was saved, so it is known which checkpoints
    there must be.  By updates, one that has no file of its own, since an epoch ended there, is taken from another file.

    Args:
        folder: the run's ``--save-dir``.
        count: how many.
        by: ``"epochs"`` (``checkpoint7.pt``) or ``"updates"`` (``checkpoint_3_1500.pt``).

    Raises:
        InputError: ``count`` is not positive, the folder has fewer, one of the last ones is missing, or a file is of
            another run.
    """
    require_positive("--last", count)
    named = _named(folder, by)
    last = folder / LAST_CHECKPOINT
    if not named:
        raise _too_few(folder, 0, count, by)
    progress = _progress(checkpoints.load(last if last.is_file() else named[max(named)]), by)
    end = max(named) if progress.done is None else progress.done
    if max(named) > end:
        raise InputError(
            f"{named[max(named)]} is of {max(named)} {by}, but {last} only of {end}: it is of another run, or this run "
            "does them again; finish the run, move such files away, or give the files to average by name"
        )
    interval = progress.interval or min(later - number for number, later in pairwise(sorted({0, *named})))
    wanted = list(range(end // interval * interval, 0, -interval))[:count]
    files = {number: named[number] for number in wanted if number in named}
    if by == "updates" and len(files) < len(wanted):
        files |= _of_ends_of_epochs(folder, set(wanted) - files.keys())
    missing = [number for number in wanted if number not in files]
    if len(wanted) < count or (missing and max(missing) < min(named)):
        raise _too_few(folder, len(files), count, by)
    if missing:
        raise InputError(
            f"{folder} is at {end} {by}, and of its last {count} checkpoints by {by} those of "
            f"{', '.join(map(str, sorted(missing)))} are missing: {_WHY_MISSING[by]}; give the files to average by "
            "name, or a smaller --last"
        )
    for number, file in files.items():
        inside = _progress(checkpoints.load(file), by).done
        if inside not in (None, number):
            raise InputError(f"{file} is of {inside} {by}, not of {number}; give the files to average by name")
    return [files[number] for number in sorted(files)]


def _named(folder: Path, by: str) -> dict[int, Path]:
    """Return the checkpoints that have a number of epochs or of updates in their names, by that number."""
    pattern = re.compile(NUMBERED_CHECKPOINTS[by])
    matches = [(pattern.fullmatch(file.name), file) for file in folder.glob(CHECKPOINTS)]
    return {int(match[1]): file for match, file in matches if match}


def _of_ends_of_epochs(folder: Path, updates: set[int]) -> dict[int, Path]:
    """Return checkpoints that were written at the end of an epoch after one of these numbers of updates."""
    files = [*_named(folder, "epochs").values(), folder / LAST_CHECKPOINT]
    done = {_progress(checkpoints.load(file), "updates").done: file for file in files if file.is_file()}
    return {number: file for number, file in done.items() if number is not None and number in updates}


def _progress(state: Mapping[str, Any], by: str) -> Progress:
    settings = (state.get("cfg") or {}).get("checkpoint") or {}
    if by == "updates":
        history = state.get("optimizer_history") or [{}]
        done = history[-1].get("num_updates")
    else:
        # the epoch that comes next, or that it is in
        epoch = ((state.get("extra_state") or {}).get("train_iterator") or {}).get("epoch")
        done = None if epoch is None else epoch - 1
    return Progress(done, settings.get(_INTERVALS[by]))


def _too_few(folder: Path, number: int, count: int, by: str) -> InputError:
    (other,) = _INTERVALS.keys() - {by}
    return InputError(
        f"{folder} has {number} checkpoints by {by}, not {count}; give a smaller --last, try --by {other}, or train "
        f"with {_FLAGS_THAT_KEEP[by]} {count} or more"
    )


def best_checkpoints(folder: Path, count: int) -> list[Path]:
    """Return the ``count`` checkpoints of a run with the best validations, best first; of equal ones the later first.

    The best is what ``--best-checkpoint-metric`` of the run says, such as the lowest loss or the highest BLEU.  Several
    files of one update count as one checkpoint.

    Args:
        folder: the run's ``--save-dir``.
        count: how many.

    Raises:
        InputError: ``count`` is not positive, fewer checkpoints were validated, or two of them by different metrics.
    """
    require_positive("--best", count)
    validated = _validated(folder)
    metrics = {(one.metric, one.is_maximized): one.file for one in validated.values()}
    if len(metrics) > 1:
        each = ", ".join(f"{file.name} by {_direction(*metric)}" for metric, file in metrics.items())
        raise InputError(
            f"{folder} has checkpoints that were compared by different metrics ({each}); give the files to average by "
            "name"
        )
    if len(validated) < count:
        raise InputError(
            f"{folder} has {len(validated)} checkpoints with the result of a validation, not {count}; give a smaller "
            "--best, or train with --keep-best-checkpoints, --keep-last-epochs or --keep-interval-updates, and "
            "validate whenever a checkpoint is written"
        )
    ranked = sorted(validated.values(), key=lambda one: (one.rank, one.updates), reverse=True)
    return [one.file for one in ranked[:count]]


class Validated(NamedTuple):
    """A checkpoint and the result of the validation after its update.

    Attributes:
        file: where it is.
        updates: after how many updates it was written.
        value: what the validation gave.
        metric: the name of that number, as in ``--best-checkpoint-metric``.
        is_maximized: whether a larger number is better.
    """

    file: Path
    updates: int
    value: float
    metric: str
    is_maximized: bool

    @property
    def rank(self) -> float:
        """A number that is larger for a better checkpoint; a value that is not a number is worse than all others."""
        if math.isnan(self.value):
            return -math.inf
        return self.value if self.is_maximized else -self.value


def _validated(folder: Path) -> dict[int, Validated]:
    """Return the checkpoints of a run that know the result of their validation, by their number of updates."""
    names = [*NUMBERED_CHECKPOINTS.values(), KEPT_BEST, re.escape(BEST_CHECKPOINT), re.escape(LAST_CHECKPOINT)]
    validated: dict[int, Validated] = {}
    # of several files of one update the first in this order is taken: its name says the most
    for pattern in names:
        for file in sorted(folder.glob(CHECKPOINTS)):
            if re.fullmatch(pattern, file.name) and (one := _validation_of(file)) is not None:
                validated.setdefault(one.updates, one)
    return validated


def _validation_of(file: Path) -> Validated | None:
    state = checkpoints.load(file)
    value = (state.get("extra_state") or {}).get("val_loss")
    updates = _progress(state, "updates").done
    if value is None or updates is None:
        return None
    settings = (state.get("cfg") or {}).get("checkpoint") or {}
    metric, is_maximized = settings.get("best_checkpoint_metric"), settings.get("maximize_best_checkpoint_metric")
    return Validated(file, updates, float(value), metric or "loss", bool(is_maximized))


def _direction(metric: str, is_maximized: bool) -> str:
    return f"{'highest' if is_maximized else 'lowest'} {metric}"

"""From which checkpoint a run continues, so that the same command never begins again.

``--restore-file``, ``--finetune-from-model`` and ``--reset-*`` say how a run begins.  fairseq obeys the first and the
last at every start, so that a run which is stopped and called again begins again.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import open_dict

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.names import flag

from .. import checkpoints
from . import epoch_position, fixes, loggers, precision, run_state, stopping

RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_dataloader", "reset_meters")
_NAMES_OF_ORIGIN = ("restore_file", "finetune_from_model", "continue_once")


@dataclass(frozen=True)
class Start:
    """How a run starts.

    Attributes:
        path: the checkpoint with which it starts, ``None`` for random weights.
        state: what that checkpoint holds.
        is_own: whether the run itself wrote the checkpoint.
        is_fine_tuning: whether the checkpoint gives only its weights.
        resets: those of ``RESETS`` that apply now.
        origin: absolute path of the checkpoint with which the run began, ``None`` if it began with random weights.
        given: those of ``RESETS`` that the command line has.
    """

    path: Path | None = None
    state: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_own: bool = False
    is_fine_tuning: bool = False
    resets: tuple[str, ...] = ()
    origin: str | None = None
    given: tuple[str, ...] = ()

    def settings(self, cfg):
        """Return a copy of ``cfg.checkpoint`` with which fairseq starts in this way."""
        settings = copy.deepcopy(cfg)
        with open_dict(settings):
            for name in RESETS:
                settings[name] = name in self.resets
            if self.path is not None and not self.is_fine_tuning:
                settings.restore_file, settings.finetune_from_model = str(self.path), None
        return settings


def start_of(cfg) -> Start:
    """Return how a run starts with the settings ``cfg.checkpoint``.

    Raises:
        InputError: the checkpoint that is named does not exist, or the folder holds a run that began with another one.
    """
    given = tuple(name for name in RESETS if cfg[name])
    name, path = _named(cfg)
    if name == "finetune_from_model" and given:
        raise InputError(f"{_flags(given)}: --finetune-from-model takes nothing but the weights; leave these flags out")
    own = newest_checkpoint(Path(cfg.save_dir))
    if own is None:
        return _beginning(cfg, name, path, given)
    state = checkpoints.load(own)
    origin = _origin(state)
    if path is None:
        pending = tuple(
            reset for reset in given if reset not in _resets_before(state) or not has_optimizer_state(state)
        )
        return Start(own, state, True, False, pending, origin, given)
    if origin == str(path.resolve()):
        # The flags beside the name were for that file.
        return Start(own, state, True, False, (), origin, given)
    if name == "restore_file" and path.resolve().parent == own.resolve().parent:
        return replace(_beginning(cfg, name, path, given), is_own=True)
    raise InputError(
        f"{flag(name)} {path}, but --save-dir {cfg.save_dir} holds a run that began with "
        f"{origin or 'random weights'}; choose another folder, or leave out {flag(name)} to continue that run"
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint from which the run in a folder continues, ``None`` if it has none.

    That is ``checkpoint_last.pt``, or without it (``--no-last-checkpoints``) the one with the most updates.
    """
    last = folder / run_folder.LAST_CHECKPOINT
    if last.is_file():
        return last
    names = "|".join([*run_folder.NUMBERED_CHECKPOINTS.values(), re.escape(run_folder.BEST_CHECKPOINT)])
    files = [file for file in folder.glob(run_folder.CHECKPOINTS) if re.fullmatch(names, file.name)]
    return max(files, key=lambda file: updates(checkpoints.load(file)), default=None)


def updates(state: Mapping[str, Any]) -> int:
    """Return after how many updates a checkpoint was written."""
    history = state.get("optimizer_history") or [{}]
    return history[-1].get("num_updates", 0)


def has_optimizer_state(state: Mapping[str, Any]) -> bool:
    """Whether a run can continue from a checkpoint as if nothing had happened."""
    return state.get("last_optimizer_state") is not None


def why_it_ended(cfg, start: Start) -> str | None:
    """Return why a run has nothing left to do, ``None`` if it has.

    ``--stop-time-hours`` is no such reason: the run continues when it is called again.

    Args:
        cfg: all settings of the run.
        start: its checkpoint.
    """
    if start.path is None or start.is_fine_tuning:
        return None
    done = 0 if "reset_optimizer" in start.resets else updates(start.state)
    if 0 < cfg.optimization.max_update <= done:
        return f"has its {cfg.optimization.max_update} updates"
    position = (start.state.get("extra_state") or {}).get("train_iterator") or {}
    epoch = 1 if "reset_dataloader" in start.resets else position.get("epoch", 1)
    if 0 < cfg.optimization.max_epoch < epoch:
        return f"has its {cfg.optimization.max_epoch} epochs"
    saved = run_state.of_checkpoint(start.state)
    is_counted = not {"reset_optimizer", "reset_meters"}.intersection(start.resets)
    is_counted &= saved.get("metric") in (None, run_state.metric_of(cfg.checkpoint))
    without = saved.get("patience", {}).get("num_runs", 0) if is_counted else 0
    if 0 < cfg.checkpoint.patience <= without:
        return f"has not improved for {without} validations (--patience {cfg.checkpoint.patience})"
    return None


def hours_until_stop(cfg, start: Start) -> float:
    """Return at how many hours of training ``--stop-time-hours`` ends this call: each call may train for as long."""
    hours = cfg.optimization.stop_time_hours
    return hours * (_hours_trained(start) // hours + 1) if hours > 0 else hours


def has_used_its_hours(cfg, end: Start) -> bool:
    """Whether ``--stop-time-hours``, as :func:`hours_until_stop` gives it, has ended a run."""
    return 0 < cfg.optimization.stop_time_hours < _hours_trained(end)


def _hours_trained(start: Start) -> float:
    """Return the hours that a run has trained, of which a checkpoint that it did not write tells nothing."""
    seconds = (start.state.get("extra_state") or {}).get("previous_training_time", 0) if start.is_own else 0
    return float(seconds) / 3600  # several processes leave a tensor


def with_own_checkpoint(load_checkpoint):
    """Return ``load_checkpoint`` that lets a run of ``b2t train`` continue from its own checkpoint."""

    @functools.wraps(load_checkpoint)
    def wrapper(cfg, trainer, **passthrough_args):
        start = None
        if stopping.is_training():
            start = start_of(cfg)
            cfg = start.settings(cfg)
        extra_state, epoch_itr = load_checkpoint(cfg, trainer, **passthrough_args)
        run_state.restore(trainer, cfg, extra_state, epoch_itr)
        loggers.begin_after(trainer.get_num_updates())
        if start is not None:
            trainer._b2t_run = {"origin": start.origin, "resets": list(start.given)}
            if not start.is_own:
                trainer._previous_training_time = 0  # that of another run
        return extra_state, epoch_itr

    return wrapper


def with_all_that_is_loaded(load_checkpoint):
    """Return ``Trainer.load_checkpoint`` that says why a checkpoint does not fit, and completes what it lacks."""
    load_checkpoint = precision.with_masters_restored(fixes.with_reason(load_checkpoint))

    @functools.wraps(load_checkpoint)
    def wrapper(self, filename, *args, **kwargs):
        averages = self.cfg.ema.store_ema and Path(filename).is_file() and not _has_moving_average(filename)
        try:
            if averages:
                self.cfg.ema.store_ema = False  # fairseq would look for the weights where it has just deleted them
            extra_state = load_checkpoint(self, filename, *args, **kwargs)
        except AssertionError as error:
            if "--reset-optimizer" not in str(error):
                raise
            raise InputError(
                f"{filename} cannot be used: {error}. That counts the updates from 0 again; or give the flags of the "
                "run that wrote it"
            ) from None
        finally:
            if averages:
                self.cfg.ema.store_ema = True
        if averages:
            self.ema.restore(self.model.state_dict(), build_fp32_params=self.cfg.ema.ema_fp32)
        elif self.cfg.ema.store_ema and extra_state is not None:
            # fairseq forgets how many updates the moving average has yet to wait for with --ema-update-freq
            self.ema.update_freq_counter = self.get_num_updates() % self.cfg.ema.ema_update_freq
        if extra_state is not None and Path(filename).is_file():
            epoch_position.complete(extra_state["train_iterator"], self, filename)
        return extra_state

    return wrapper


def _has_moving_average(filename: str) -> bool:
    return "ema" in (checkpoints.load(filename).get("extra_state") or {})


def _named(settings: Mapping[str, Any]) -> tuple[str, Path | None]:
    """Return the setting that names a checkpoint to begin with, and the file."""
    given = {name: settings.get(name) for name in _NAMES_OF_ORIGIN}
    named = [(name, Path(path)) for name, path in given.items() if path and path != run_folder.LAST_CHECKPOINT]
    if len(named) > 1:
        flags = " and ".join(f"{flag(name)} {path}" for name, path in named)
        raise InputError(f"{flags}: a run begins with one checkpoint; give one of them")
    return named[0] if named else ("", None)


def _beginning(cfg, name: str, path: Path | None, given: tuple[str, ...]) -> Start:
    """Return how a run begins that has no checkpoint of its own."""
    if path is None:
        return Start(given=given)
    if not path.is_file():
        in_folder = Path(cfg.save_dir) / path
        hint = f"; {in_folder} exists" if in_folder.is_file() else ""
        raise InputError(f"{flag(name)} {path}: no such checkpoint{hint}")
    state = checkpoints.load(path)
    is_fine_tuning = name == "finetune_from_model"
    return Start(path, state, False, is_fine_tuning, given, str(path.resolve()), given)


def _origin(state: Mapping[str, Any]) -> str | None:
    """Return the absolute path of the checkpoint with which the run of a checkpoint began."""
    saved = run_state.of_checkpoint(state)
    if "origin" in saved:
        return saved["origin"]
    path = _named(_saved_settings(state))[1]
    return str(path.resolve()) if path else None


def _resets_before(state: Mapping[str, Any]) -> list[str]:
    """Return those of ``RESETS`` that the command had which wrote a checkpoint."""
    saved = run_state.of_checkpoint(state)
    settings = _saved_settings(state)
    return saved["resets"] if "resets" in saved else [name for name in RESETS if settings.get(name)]


def _saved_settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``cfg.checkpoint`` of a checkpoint, which tells of older versions' runs where they began."""
    return checkpoints.flat_settings((state.get("cfg") or {}).get("checkpoint") or {})


def _flags(names: Iterable[str]) -> str:
    return " ".join(flag(name) for name in names)

"""What a checkpoint says of its run beyond what fairseq writes: where it began, its patience, its last validation.

fairseq counts the validations of ``--patience`` in an attribute of a function, which an interruption loses, and
forgets what ``reduce_lr_on_plateau`` has counted and the validation after which it would have acted.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils

from b2t_common import run_folder

from . import stopping

_KEY = "b2t_run"
_PLATEAU_COUNTERS = ("num_bad_epochs", "cooldown_counter")


def of_checkpoint(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its run, as far as it does.

    Keys:
        origin: absolute path of the checkpoint with which the run began, ``None`` if it began with random weights.
        metric: ``--best-checkpoint-metric`` and whether it is maximized: what the best value so far is a value of.
        resets: the names of the ``--reset-*`` flags of the command that wrote the checkpoint.
        patience: ``best`` and ``num_runs`` of ``--patience``; absent if nothing was validated.
        epoch_loss: what the validation at the end of the last epoch gave; absent within an epoch.
    """
    return dict((state.get("extra_state") or {}).get(_KEY) or {})


def with_run_state(save_checkpoint):
    """Return ``Trainer.save_checkpoint`` that also writes what belongs to the run."""

    @functools.wraps(save_checkpoint)
    def wrapper(self, filename, extra_state):
        state = dict(getattr(self, "_b2t_run", {}))
        state["metric"] = metric_of(self.cfg.checkpoint)
        if (patience := _patience()) is not None:
            state["patience"] = patience
        loss = getattr(self, "_b2t_epoch_loss", None)
        loss = extra_state.get("val_loss") if loss is None else loss
        at_end_of_epoch = extra_state.get("train_iterator", {}).get("iterations_in_epoch") == 0
        if at_end_of_epoch and loss is not None:
            state["epoch_loss"] = float(loss)
        saved = save_checkpoint(self, filename, {**extra_state, _KEY: state})
        is_checkpoint = fnmatch(Path(filename).name, run_folder.CHECKPOINTS)
        if saved and is_checkpoint and stopping.is_training() and self.cfg.checkpoint.no_last_checkpoints:
            # What an earlier stop wrote there in spite of --no-last-checkpoints is out of date now.
            Path(filename).with_name(run_folder.LAST_CHECKPOINT).unlink(missing_ok=True)
        return saved

    return wrapper


def restore(trainer, checkpoint_settings, extra_state: Mapping[str, Any] | None, epoch_itr) -> None:
    """Give a run that continues what its checkpoint says of it; in another run the counters begin at zero.

    Args:
        trainer: has loaded the checkpoint.
        checkpoint_settings: the ``cfg.checkpoint`` with which it did so.
        extra_state: of the checkpoint, ``None`` without one.
        epoch_itr: where in the training data the run continues.
    """
    state = of_checkpoint({"extra_state": extra_state})
    goes_on = trainer.get_num_updates() > 0
    same_metric = state.get("metric") in (None, metric_of(checkpoint_settings))
    counts_on = goes_on and same_metric and not checkpoint_settings.reset_meters
    _set_patience(state.get("patience") if counts_on else None)
    if not same_metric:
        # fairseq would compare a BLEU with a loss
        vars(checkpoint_utils.save_checkpoint).pop("best", None)
    if epoch_itr.iterations_in_epoch > 0:
        _finish_epoch_with_any_rate(trainer)
    elif goes_on and not checkpoint_settings.reset_lr_scheduler:
        # At the end of an epoch fairseq saves before the schedule of learning rates has made its step.
        trainer.lr_step(epoch_itr.epoch - 1, state.get("epoch_loss"))


def metric_of(checkpoint_settings) -> list[Any]:
    """Return by what checkpoints are compared: the name of a number, and whether a larger one is better."""
    return [checkpoint_settings.best_checkpoint_metric, bool(checkpoint_settings.maximize_best_checkpoint_metric)]


def _finish_epoch_with_any_rate(trainer) -> None:
    """Let ``--stop-min-lr`` end a run at the end of an epoch only, as it does in a run that is not interrupted.

    fairseq compares the learning rate before each epoch, and when it has loaded a checkpoint, which is the next time
    that it asks for the rate.
    """

    def get_lr() -> float:
        del trainer.get_lr
        return math.inf

    trainer.get_lr = get_lr


def forget_other_runs() -> None:
    """Let a run start to count, whatever ran before it in this process."""
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    _set_patience(None)


def _should_stop_early():
    """Return the function that has the counters, ``None`` if no training has begun in this process."""
    return getattr(sys.modules.get("fairseq_cli.train"), "should_stop_early", None)


def _patience() -> dict[str, Any] | None:
    counters = vars(_should_stop_early() or (lambda: None))
    if counters.get("best") is None:
        return None
    return {"best": float(counters["best"]), "num_runs": int(counters["num_runs"])}


def _set_patience(patience: Mapping[str, Any] | None) -> None:
    function = _should_stop_early()
    if function is None:
        return
    for name in ("best", "num_runs"):
        vars(function).pop(name, None)
    vars(function).update(patience or {})


def with_plateau_counters(state_dict):
    """Return ``ReduceLROnPlateauLRSchedule.state_dict`` with how long the loss has not improved."""

    @functools.wraps(state_dict)
    def wrapper(self):
        return {**state_dict(self), **{name: getattr(self.lr_scheduler, name) for name in _PLATEAU_COUNTERS}}

    return wrapper


def with_plateau_counters_restored(load_state_dict):
    """Return ``ReduceLROnPlateauLRSchedule.load_state_dict`` for the state above; an older state has no counters."""

    @functools.wraps(load_state_dict)
    def wrapper(self, state_dict):
        load_state_dict(self, state_dict)
        for name in _PLATEAU_COUNTERS:
            if name in state_dict:
                setattr(self.lr_scheduler, name, state_dict[name])

    return wrapper

"""Curves that other programs draw while a model trains: one curve, also when the run is stopped and continued."""

from __future__ import annotations

import functools
import os
import sys

from fairseq.logging import progress_bar

_updates_before = [0]


def begin_after(updates: int) -> None:
    """Begin the curves of a training in this process.

    Args:
        updates: how many updates the run had made before.
    """
    _updates_before[0] = updates
    # fairseq keeps one writer for each kind of report, so a second training would write into the files of the first
    for writer in progress_bar._tensorboard_writers.values():
        writer.close()
    progress_bar._tensorboard_writers.clear()


def with_one_curve(writer_of):
    """Return ``TensorboardProgressBarWrapper._writer`` whose curve continues after an interruption.

    The updates that a run had made after its last checkpoint are made again.  TensorBoard is told so, and hides what
    was logged of them before.
    """

    @functools.wraps(writer_of)
    def wrapper(self, key):
        writers = progress_bar._tensorboard_writers
        if progress_bar.SummaryWriter is not None and key not in writers:
            begin = _updates_before[0] + 1
            writers[key] = progress_bar.SummaryWriter(os.path.join(self.tensorboard_logdir, key), purge_step=begin)
            writers[key].add_text("sys.argv", " ".join(sys.argv), begin)
        return writer_of(self, key)

    return wrapper


def with_one_run(init):
    """Return ``WandBProgressBarWrapper.__init__`` that begins a run once in a process.

    fairseq begins it again in every epoch and every validation.  The library returns the run that it has, but writes a
    line and makes an empty folder each time.
    """

    @functools.wraps(init)
    def wrapper(self, wrapped_bar, wandb_project, run_name=None):
        if progress_bar.wandb is not None and progress_bar.wandb.run is not None:
            self.wrapped_bar = wrapped_bar
        else:
            init(self, wrapped_bar, wandb_project, run_name)

    return wrapper


def with_settings_that_change(update_config):
    """Return ``WandBProgressBarWrapper.update_config`` that takes other settings for a run that continues.

    The library refuses another value, such as a larger ``--max-update``, unless it is told that values may change.
    """

    @functools.wraps(update_config)
    def wrapper(self, config):
        if progress_bar.wandb is not None:
            progress_bar.wandb.config.update(config, allow_val_change=True)
        self.wrapped_bar.update_config(config)

    return wrapper

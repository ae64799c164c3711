"""Ending a run on a signal: every process stops after the same update, with a checkpoint from which the run goes on.

Batch systems send SIGUSR1 or SIGTERM to every process of a job before its time is over: the launcher, the training
processes that it spawned, and the workers that load data.
"""

from __future__ import annotations

import functools
import logging
import mmap
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess

import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer
from fairseq_cli import train as fairseq_train
from torch.utils.data._utils import signal_handling

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
# sysexits.h's EX_TEMPFAIL: not finished; the same command goes on
EXIT_STATUS = 75
# who sends SIGTERM kills soon after (SLURM: 30 seconds); a process that hangs must not outlive that by much
SECONDS_AFTER_SIGTERM = 60
# added to the training time of a process that was asked to stop; fairseq sums the times of all processes after every
# update, so that all of them learn of it after the same one, without any further communication
_ASKED = 1e12

_asked = threading.Event()
_training = mmap.mmap(-1, 1)  # whether this process trains; shared with all processes forked from it


def was_asked() -> bool:
    """Whether this process got one of ``SIGNALS``, or belongs to a run in which some process did."""
    return _asked.is_set()


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait until there is a handler for them: they arrive when one of the contexts below is entered."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def forwarded_to_spawned() -> Iterator[None]:
    """Let signals to this process, which only waits for those that it spawns, reach all of them."""

    def forward(number, _frame):
        _asked.set()
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGUSR1)

    def start(process):
        # what is spawned now has no handler for a while, and inherits that signals have to wait
        with held_back():
            plain_start(process)
        if _asked.is_set():
            os.kill(process.pid, signal.SIGUSR1)

    _asked.clear()
    plain_start = SpawnProcess.start
    SpawnProcess.start = start
    try:
        with _handled_by(forward):
            yield
    finally:
        SpawnProcess.start = plain_start


@contextmanager
def stopping_when_asked() -> Iterator[None]:
    """Make this training process end its run, with a checkpoint, when it or another of the run's gets a signal."""
    _mend_fairseq()
    _training[0] = 1
    try:
        with _handled_by(_ask):
            yield
    finally:
        _training[0] = 0


@functools.cache
def _mend_fairseq() -> None:
    Trainer._aggregate_logging_outputs = _telling(Trainer._aggregate_logging_outputs)
    fairseq_train.validate_and_save = _stopping(fairseq_train.validate_and_save)
    os.register_at_fork(after_in_child=_serve_to_the_end)


@contextmanager
def _handled_by(handler) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        # a spawned process keeps them to its end: the launcher may pass on one more signal
        if multiprocessing.parent_process() is None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, old in previous.items():
                signal.signal(number, old)


def _ask(number: int, _frame) -> None:
    if number == signal.SIGTERM:
        timer = threading.Timer(SECONDS_AFTER_SIGTERM, os._exit, [128 + number])
        timer.daemon = True
        timer.start()
    _asked.set()


def _telling(aggregate):
    def wrapper(self, logging_outputs, *sums, **kwargs):
        # after an update: sample size, batches out of memory, training time; after validation: sample size
        if len(sums) == 3 and _asked.is_set():
            sums = (*sums[:2], sums[2] + _ASKED)
        return aggregate(self, logging_outputs, *sums, **kwargs)

    return wrapper


def _stopping(validate_and_save):
    def wrapper(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch):
        updates = trainer.get_num_updates()
        if not _training[0]:
            stop = False  # fairseq-train, after b2t train in the same process
        elif trainer._cumulative_training_time is None:
            stop = _asked.is_set()  # a run of one process
        else:
            stop = trainer._cumulative_training_time > _ASKED / 1e4
        if not stop:
            return validate_and_save(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
        _asked.set()
        # as it goes into the checkpoint
        trainer._cumulative_training_time = trainer._local_cumulative_training_time()
        losses = [None]
        intervals = (cfg.checkpoint.save_interval_updates, cfg.dataset.validate_interval_updates)
        finished = 0 < cfg.optimization.max_update <= updates
        if finished or end_of_epoch or any(interval > 0 and updates % interval == 0 for interval in intervals):
            # here the run would have validated anyway: its best checkpoint must not depend on being stopped
            losses, _ = validate_and_save(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
        logger.info(f"asked to stop: ending after update {updates} with a checkpoint")
        checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        if torch.distributed.is_initialized():
            # nobody ends, and has the others killed, before the checkpoint is written
            torch.distributed.barrier()
        return losses, True

    return wrapper


def _serve_to_the_end() -> None:
    """Let a process that loads data outlive the signals, until the process that it serves has done its training."""
    if not _training[0]:
        return
    set_handlers = signal_handling._set_worker_signal_handlers

    def end_with_trainer(number, _frame):
        if not _training[0]:
            os._exit(128 + number)

    def set_ours():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, end_with_trainer)

    def set_theirs_and_ours():
        # PyTorch's own one for SIGTERM ends the worker
        set_handlers()
        set_ours()

    set_ours()
    signal_handling._set_worker_signal_handlers = set_theirs_and_ours

"""Ending a run on a signal: every process stops after the same update, with a checkpoint from which the run continues.

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

import torch
from fairseq import checkpoint_utils

from b2t_common.names import ASKED_TO_STOP

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
EXIT_STATUS = 75
"""EX_TEMPFAIL of sysexits.h: the run is not finished, and the same command continues it."""
SECONDS_AFTER_SIGTERM = 60
"""A process that hangs ends itself after this time; a batch system kills soon after SIGTERM (SLURM: 30 seconds)."""

# This number is added to the training time of a process that was asked to stop.  fairseq sums the times of all
# processes after every update, so all of them learn of the request after the same update, with no message of ours.
_ASKED = 1e12

_asked = threading.Event()
_forwarding = threading.Event()
_deadlines: list[threading.Timer] = []
# Whether this process trains: one byte that all processes forked from it share.
_training = mmap.mmap(-1, 1)


def was_asked() -> bool:
    """Whether this process got one of ``SIGNALS``, or belongs to a run in which some process did."""
    return _asked.is_set()


def is_training() -> bool:
    """Whether this process trains by ``b2t train``, and not by ``fairseq-train`` after it in the same process."""
    return bool(_training[0])


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
    """Send signals that this process gets to the processes that it spawns and waits for."""

    def forward(number, _frame):
        _asked.set()
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGUSR1)

    _asked.clear()
    _forwarding.set()
    try:
        with _handled_by(forward):
            yield
    finally:
        _forwarding.clear()


def with_signals_held_back(start):
    """Return ``SpawnProcess.start`` for a process that forwards its signals."""

    @functools.wraps(start)
    def wrapper(self):
        if not _forwarding.is_set():
            return start(self)
        # The new process has no handler at first.  It inherits that signals have to wait.
        with held_back():
            start(self)
        if _asked.is_set():
            os.kill(self.pid, signal.SIGUSR1)
        return None

    return wrapper


@contextmanager
def stopping_when_asked() -> Iterator[None]:
    """End the run of this training process, with a checkpoint, when one of the run's processes gets a signal."""
    _training[0] = 1
    try:
        with _handled_by(_ask):
            yield
    finally:
        _training[0] = 0
        # The training has ended in time; the process may go on with something else.
        while _deadlines:
            _deadlines.pop().cancel()


@contextmanager
def _handled_by(handler) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        # A spawned process keeps its handlers to its end, because the launcher may forward one more signal.
        if multiprocessing.parent_process() is None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, old in previous.items():
                signal.signal(number, old)


def _ask(number: int, _frame) -> None:
    if number == signal.SIGTERM:
        timer = threading.Timer(SECONDS_AFTER_SIGTERM, os._exit, [128 + number])
        timer.daemon = True
        timer.start()
        _deadlines.append(timer)
    _asked.set()


def with_request_to_stop(aggregate):
    """Return ``Trainer._aggregate_logging_outputs`` that tells all processes that one of them got a signal."""

    @functools.wraps(aggregate)
    def wrapper(self, logging_outputs, *sums, **kwargs):
        # After an update the sums are sample size, batches out of memory, training time; after validation sample size.
        if len(sums) == 3 and _asked.is_set():
            sums = (*sums[:2], sums[2] + _ASKED)
        return aggregate(self, logging_outputs, *sums, **kwargs)

    return wrapper


def with_stop(validate_and_save):
    """Return ``validate_and_save`` that ends a run with a checkpoint once one of its processes got a signal."""

    @functools.wraps(validate_and_save)
    def wrapper(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch):
        updates = trainer.get_num_updates()
        if not is_training():
            stop = False
        elif trainer._cumulative_training_time is None:
            stop = _asked.is_set()  # a run of one process
        else:
            stop = trainer._cumulative_training_time > _ASKED / 1e4
        if not stop:
            return validate_and_save(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
        _asked.set()
        # The checkpoint must hold the time without the number that carried the request.
        trainer._cumulative_training_time = trainer._local_cumulative_training_time()
        losses = [None]
        intervals = (cfg.checkpoint.save_interval_updates, cfg.dataset.validate_interval_updates)
        finished = 0 < cfg.optimization.max_update <= updates
        if finished or end_of_epoch or any(interval > 0 and updates % interval == 0 for interval in intervals):
            # The run would have validated here anyway: its best checkpoint must not depend on being stopped.
            losses, _ = validate_and_save(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
        without = " without a checkpoint, because of --no-save" if cfg.checkpoint.no_save else " with a checkpoint"
        logger.info(f"{ASKED_TO_STOP}ending after update {updates}{without}")
        trainer._b2t_epoch_loss = losses[0]
        with _saving_for_continuation(cfg.checkpoint):
            checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        if torch.distributed.is_initialized():
            # A process that ends before the checkpoint is written would have the others killed.
            torch.distributed.barrier()
        return losses, True

    return wrapper


@contextmanager
def _saving_for_continuation(cfg) -> Iterator[None]:
    """Save nothing but ``checkpoint_last.pt``, with all that is needed to continue, whatever the run saves else."""
    needed = {
        "no_last_checkpoints": False,
        "no_save_optimizer_state": False,
        # What was due after this update is already saved, with the result of its validation.
        "no_epoch_checkpoints": True,
        "save_interval_updates": 0,
    }
    given = {name: cfg[name] for name in needed}
    cfg.update(needed)
    try:
        yield
    finally:
        cfg.update(given)


def with_handlers_of_workers(set_handlers):
    """Return ``_set_worker_signal_handlers`` for processes that load the data of a training process."""

    @functools.wraps(set_handlers)
    def wrapper():
        # PyTorch's handler of SIGTERM ends the worker.
        set_handlers()
        _serve_to_the_end()

    return wrapper


def serve_to_the_end_after_fork() -> None:
    """Let processes that are forked from now on outlive the signals, if this process trains then."""
    os.register_at_fork(after_in_child=_serve_to_the_end)


def _serve_to_the_end() -> None:
    """Let a process that loads data outlive the signals, until the process that it serves has done its training."""
    if not _training[0]:
        return

    def end_with_trainer(number, _frame):
        if not _training[0]:
            os._exit(128 + number)

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_with_trainer)

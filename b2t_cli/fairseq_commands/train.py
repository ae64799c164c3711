"""Training: ``fairseq-train`` with the checks and fixes of ``b2t train``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fairseq import options
from fairseq.dataclass.configs import FairseqConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq_cli import train as fairseq_train
from torch.multiprocessing import ProcessRaisedException

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.names import flag
from b2t_fairseq import checkpoints
from b2t_fairseq.hub import data_folder, language_pair
from b2t_fairseq.upstream import patches, patching, resuming, run_state, stopping

from ..path import with_plugin
from ..runs.lock import Lock, locked
from . import starting, validation_bleu, weights_and_biases

# the format of fairseq-train, which b2t report reads
_LOG_FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"


@stopping.held_back()
def run(argv: list[str]) -> int:
    """Train with the flags of ``fairseq-train``.

    Args:
        argv: the flags; ``--user-dir`` is this plugin unless another is given.

    Returns:
        0 if the run has ended by itself; 75 if a signal ended it and the same command continues it; 1 if a signal ended
        it and nothing was saved.

    Raises:
        InputError: the flags cannot work, what they name is missing, or the folder holds or is used by another run.
    """
    logging.basicConfig(format=_LOG_FORMAT, datefmt="%Y-%m-%d %H:%M:%S", level="INFO", stream=sys.stdout)
    sys.argv = ["b2t train", *with_plugin(argv)]
    starting.refuse_two_precisions(argv)
    parser = options.get_training_parser()
    # an abbreviation would be read here, but neither by scripts/train.sh nor by the checks of single flags
    parser.allow_abbrev = False
    args = options.parse_args_and_arch(parser)
    # fairseq would use a TPU whenever --bf16 is given
    args.tpu = "--tpu" in argv
    cfg = convert_namespace_to_omegaconf(args)
    cfg.common.tpu = args.tpu
    starting.refuse_what_cannot_work(cfg)
    validation_bleu.refuse_worst_checkpoints(cfg)
    validation_bleu.complete(cfg, argv)
    starting.refuse_separate_runs(cfg, argv)
    # tells which process is the first one of the run
    distributed_utils.infer_init_method(cfg.distributed_training)
    folder = Path(cfg.checkpoint.save_dir)
    if cfg.checkpoint.no_save or cfg.distributed_training.distributed_rank:
        return _run(cfg, folder, None)
    with locked(folder) as lock:
        for unfinished in folder.glob(run_folder.UNFINISHED_CHECKPOINTS):
            unfinished.unlink()
        return _run(cfg, folder, lock)


def _run(cfg: FairseqConfig, folder: Path, lock: Lock | None) -> int:
    start = resuming.start_of(cfg.checkpoint)
    if start.is_own:
        refuse_other_run(cfg, start.state)
    if reason := resuming.why_it_ended(cfg, start):
        if not start.is_own:
            raise InputError(
                f"--restore-file {start.path} {reason}: nothing is left to train; {starting.HOW_TO_BEGIN_AGAIN}"
            )
        print(f"{folder} {reason}: nothing to do")
        return 0
    starting.refuse_without_optimizer(start)
    starting.refuse_missing_files(cfg, start)
    starting.refuse_bad_schedule(cfg, start)
    starting.warn_of_flags_without_effect(cfg)
    starting.warn_of_slow_precision(cfg)
    _tell(start)
    cfg.optimization.stop_time_hours = resuming.hours_until_stop(cfg, start)
    patches.apply(patching.IN_TRAINING)
    one_curve = weights_and_biases.identified(cfg, folder, start.is_own)
    with one_curve, stopping.forwarded_to_spawned(), _profiled(cfg), _refusals_of_spawned():
        distributed_utils.call_main(cfg, train, lock=lock)
    return _how_it_ended(cfg, folder, resuming.updates(start.state) if start.is_own else 0)


def print_model_flags(arch: str) -> None:
    """Print the flags of the model of ``--arch``.

    Raises:
        InputError: there is no such model.
    """
    if arch not in ARCH_MODEL_REGISTRY:
        known = ", ".join(sorted(name for name in ARCH_MODEL_REGISTRY if name.startswith("b2t_")))
        raise InputError(f"--arch {arch}: unknown model; this plugin has {known}")
    parser = argparse.ArgumentParser(
        prog="b2t train",
        usage=f"b2t train DATA --arch {arch} [flags]",
        description=f"The flags of the model {arch}; fairseq-train --help lists those of the training:",
        add_help=False,
    )
    ARCH_MODEL_REGISTRY[arch].add_args(parser)
    parser.print_help()


def train(cfg: FairseqConfig, lock: Lock | None = None) -> None:
    """``fairseq-train``'s main function in one training process; stops when asked to.

    Args:
        cfg: fairseq's settings.
        lock: of the run's folder, held as long as this process lives.
    """
    # a spawned process has applied only what comes with the import of the plugin
    patches.apply(patching.IN_TRAINING)
    run_state.forget_other_runs()
    with stopping.stopping_when_asked(), weights_and_biases.ended(cfg):
        fairseq_train.main(cfg)


def refuse_other_run(cfg: FairseqConfig, state: Mapping[str, Any]) -> None:
    """Check that the last checkpoint in ``--save-dir`` is of a run of the same model and languages.

    Args:
        cfg: the settings of the run that is about to start.
        state: the checkpoint from which it would continue.

    Raises:
        InputError: it is of another run; the message lists what differs.
    """
    different = checkpoints.differing_settings(checkpoints.model_settings(state), checkpoints.flat_settings(cfg.model))
    saved_task = checkpoints.task_settings(state)
    languages = _languages(saved_task), _languages(checkpoints.flat_settings(cfg.task))
    if all(languages) and languages[0] != languages[1]:
        different["languages"] = languages
    if different:
        listed = ", ".join(f"{name} {theirs} there, {here} here" for name, (theirs, here) in different.items())
        raise InputError(
            f"--save-dir {cfg.checkpoint.save_dir} holds another run ({listed}); choose another folder, or give the "
            "flags of that run to continue it"
        )


def _languages(task: dict[str, Any]) -> str | None:
    """Return the language pair in the settings of a task, or in its data, ``None`` if neither has it."""
    source, target = language_pair(task, data_folder(task))
    return f"{source}-{target}" if source and target else None


def _tell(start: resuming.Start) -> None:
    """Print how the run starts, if it starts with a checkpoint."""
    if start.path is None:
        return
    if not start.is_own:
        print(f"the run begins with {start.path}")
        return
    began = f" (it began with {start.origin})" if start.origin and start.origin != str(start.path.resolve()) else ""
    print(f"the run continues from {start.path}, after update {resuming.updates(start.state)}{began}")
    applied = [flag(name) for name in start.given if name not in start.resets]
    if applied:
        print(
            f"{' '.join(applied)} had its effect when the run began; to reset again, add --restore-file {start.path} "
            "and another --save-dir"
        )


@contextmanager
def _profiled(cfg: FairseqConfig) -> Iterator[None]:
    """Mark the operations of the training for NVIDIA's profiler, with ``--profile``."""
    if not cfg.common.profile:
        yield
        return
    with torch.cuda.profiler.profile(), torch.autograd.profiler.emit_nvtx():
        yield


@contextmanager
def _refusals_of_spawned() -> Iterator[None]:
    """Raise what a process that was spawned has refused as an error of this process."""
    try:
        yield
    except ProcessRaisedException as error:
        # it holds the traceback as text
        name, _, message = str(error).strip().splitlines()[-1].partition(": ")
        if name.rpartition(".")[2] in (InputError.__name__, FileNotFoundError.__name__):
            raise InputError(message) from None
        raise


def _how_it_ended(cfg: FairseqConfig, folder: Path, updates_before: int) -> int:
    """Say how a training ended that did not end by itself, and return the exit status."""
    if cfg.checkpoint.no_save:
        if not stopping.was_asked():
            return 0
        print("stopped by a signal; with --no-save nothing was saved, so the same command does not continue from here")
        return 1
    path = resuming.newest_checkpoint(folder)
    if path is None:
        raise InputError(f"training ended without any checkpoint in --save-dir {folder}")
    end = resuming.Start(path, checkpoints.load(path), is_own=True)
    updates = resuming.updates(end.state)
    if resuming.why_it_ended(cfg, end):
        return 0
    if stopping.was_asked():
        status = f"exit status {stopping.EXIT_STATUS}"
        print(f"stopped by a signal after update {updates}, {status}: the same command continues from {path}")
        return stopping.EXIT_STATUS
    if resuming.has_used_its_hours(cfg, end):
        print(f"stopped by --stop-time-hours after update {updates}: the same command continues for as long again")
    elif updates == updates_before:
        print(f"{folder} has still {updates} updates: nothing to do, for the reason above")
    return 0

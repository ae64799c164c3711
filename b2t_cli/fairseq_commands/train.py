"""Training: ``fairseq-train`` with the checks and fixes of ``b2t train``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from fairseq import options
from fairseq.data import data_utils
from fairseq.dataclass.configs import FairseqConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq_cli import train as fairseq_train

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints
from b2t_fairseq.upstream import patches, stopping

from ..path import with_plugin

# the format of fairseq-train, which b2t report reads
_LOG_FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"


@stopping.held_back()
def run(argv: list[str]) -> int:
    """Train with the flags of ``fairseq-train``.

    Args:
        argv: the flags; ``--user-dir`` is this plugin unless another is given.

    Returns:
        0, or 75 if a signal ended the run before its last update; the same command continues it then.

    Raises:
        InputError: the folder holds another run, or there is no device for the processes asked for.
    """
    logging.basicConfig(format=_LOG_FORMAT, datefmt="%Y-%m-%d %H:%M:%S", level="INFO", stream=sys.stdout)
    # fairseq would log a line for every tied parameter; the plugin logs one line about all of them
    logging.getLogger("fairseq.trainer").addFilter(lambda record: "detected shared parameter" not in str(record.msg))
    sys.argv = ["b2t train", *with_plugin(argv)]
    args = options.parse_args_and_arch(options.get_training_parser())
    # fairseq would use a TPU whenever --bf16 is given
    args.tpu = "--tpu" in argv
    cfg = convert_namespace_to_omegaconf(args)
    cfg.common.tpu = args.tpu
    _refuse_to_train_nothing(cfg)
    last = _last_checkpoint(cfg)
    if last is not None:
        refuse_other_run(cfg, last)
    if last is not None and _is_finished(cfg, last):
        print(f"{cfg.checkpoint.save_dir} has its {cfg.optimization.max_update} updates: nothing to do")
        return 0
    patches.apply(patches.IN_TRAINING)
    with stopping.forwarded_to_spawned():
        distributed_utils.call_main(cfg, train)
        last = _expect_checkpoint(cfg)
    if stopping.was_asked() and not (last and _is_finished(cfg, last)):
        print(
            f"stopped by a signal, exit status {stopping.EXIT_STATUS}: the same command continues from the checkpoint"
        )
        return stopping.EXIT_STATUS
    return 0


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


def train(cfg: FairseqConfig) -> None:
    """Run the main function of ``fairseq-train`` in one training process, which ends after a signal."""
    # in a spawned process only the patches of the plugin's import are applied
    patches.apply(patches.IN_TRAINING)
    with stopping.stopping_when_asked():
        fairseq_train.main(cfg)


def refuse_other_run(cfg: FairseqConfig, state: dict[str, Any]) -> None:
    """Check that the last checkpoint in ``--save-dir`` is of a run of the same model and languages.

    Args:
        cfg: the settings of the run that is about to start.
        state: the checkpoint from which it would continue.

    Raises:
        InputError: it is of another run; the message lists what differs.
    """
    different = checkpoints.differing_settings(checkpoints.model_settings(state), checkpoints.flat_settings(cfg.model))
    saved_task = checkpoints.flat_settings((state.get("cfg") or {}).get("task") or {})
    languages = _languages(saved_task), _languages(checkpoints.flat_settings(cfg.task))
    if all(languages) and languages[0] != languages[1]:
        different["languages"] = languages
    if different:
        listed = ", ".join(f"{name} {theirs} there, {here} here" for name, (theirs, here) in different.items())
        raise InputError(
            f"--save-dir {cfg.checkpoint.save_dir} holds another run ({listed}); choose another folder, or give the "
            "flags of that run to continue it"
        )


def _last_checkpoint(cfg: FairseqConfig) -> dict[str, Any] | None:
    """Return the checkpoint from which fairseq would continue, ``None`` for a new run."""
    last = Path(cfg.checkpoint.save_dir) / run_folder.LAST_CHECKPOINT
    continues = cfg.checkpoint.restore_file == run_folder.LAST_CHECKPOINT and last.exists()
    return checkpoints.load(last) if continues else None


def _is_finished(cfg: FairseqConfig, state: dict[str, Any]) -> bool:
    """Return whether the run has all its updates; fairseq would add one more each time that it is called."""
    resets = cfg.checkpoint.reset_optimizer or cfg.checkpoint.reset_lr_scheduler
    if resets or not cfg.optimization.max_update:
        return False
    return state["optimizer_history"][-1]["num_updates"] >= cfg.optimization.max_update


def _languages(task: dict[str, Any]) -> str | None:
    """Return the language pair in the settings of a task, or in its data, ``None`` if neither has it."""
    source, target = task.get("source_lang"), task.get("target_lang")
    folder = str(task.get("data") or "").split(":")[0]
    if (source is None or target is None) and Path(folder).is_dir():
        source, target = data_utils.infer_language_pair(folder)
    return f"{source}-{target}" if source and target else None


def _refuse_to_train_nothing(cfg: FairseqConfig) -> None:
    """Raise InputError if fairseq would spawn one process for each GPU, and there is no GPU."""
    settings = cfg.distributed_training
    spawns = not settings.distributed_no_spawn and settings.distributed_world_size > 1
    if spawns and not torch.cuda.is_available() and not cfg.common.tpu:
        raise InputError(
            f"--distributed-world-size {settings.distributed_world_size}, but no GPU is visible, so fairseq would "
            "start no process at all; check CUDA_VISIBLE_DEVICES, or start each process yourself with "
            "--distributed-no-spawn"
        )


def _expect_checkpoint(cfg: FairseqConfig) -> dict[str, Any] | None:
    """Return the last checkpoint of a run that has ended, ``None`` in a process that does not write checkpoints."""
    if cfg.checkpoint.no_save or cfg.distributed_training.distributed_rank:
        return None
    if not any(Path(cfg.checkpoint.save_dir).glob(run_folder.CHECKPOINTS)):
        raise InputError(f"training ended without any checkpoint in --save-dir {cfg.checkpoint.save_dir}")
    return _last_checkpoint(cfg)

"""What is known before a training starts: flags that cannot work or have no effect, and files that are missing."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from fairseq import optim
from fairseq.dataclass.configs import FairseqConfig
from fairseq.logging import progress_bar
from fairseq.optim import lr_scheduler
from omegaconf import DictConfig

from b2t_common.errors import InputError
from b2t_common.names import flag, spelled
from b2t_common.processor import computes_bfloat16
from b2t_fairseq.upstream import resuming

from . import validation_bleu

logger = logging.getLogger(__name__)

HOW_TO_BEGIN_AGAIN = (
    "give --finetune-from-model in place of --restore-file, or the flags --reset-optimizer --reset-lr-scheduler "
    "--reset-dataloader --reset-meters, to begin with its weights"
)

_SMALLEST = {
    "dataset": {
        "validate_interval": 1,
        "required_batch_size_multiple": 1,
        "max_tokens": 1,
        "max_tokens_valid": 1,
        "batch_size": 1,
        "batch_size_valid": 1,
        "num_workers": 0,
    },
    "checkpoint": {"save_interval": 1},
    "common": {"log_interval": 1, "seed": 0},
}
"""Numbers, with the smallest that fairseq neither fails on nor ignores, by fairseq's groups of settings."""

_NOT_SUPPORTED = {
    "checkpoint": {
        "checkpoint_suffix": "no other command looks for such files; give each run a --save-dir of its own",
        "write_checkpoints_asynchronously": "fairseq then never replaces checkpoint_last.pt, so no run could continue",
    },
    "distributed_training": {"use_sharded_state": "no other command reads checkpoints in parts"},
    "common": {"use_plasma_view": "the store of PyArrow that it needs exists no more"},
}
"""Settings that are refused, with the reason, by fairseq's groups of settings."""

_PRECISIONS = {
    "--fp16": "fp16",
    "--memory-efficient-fp16": "fp16",
    "--bf16": "bf16",
    "--memory-efficient-bf16": "bf16",
    "--amp": "amp",
}
"""Flags of a precision, and which it is."""

_LOGGERS = {
    "tensorboard_logdir": ("SummaryWriter", "tensorboard"),
    "wandb_project": ("wandb", "wandb"),
    "aim_repo": ("get_aim_run", "aim"),
    "azureml_logging": ("Run", "azureml-core"),
}
"""Settings for which fairseq needs a package, with the name that fairseq gives it and the package."""


def refuse_what_cannot_work(cfg: FairseqConfig) -> None:
    """Check what the flags alone tell.

    Raises:
        InputError: some of them cannot work together, or without something that is missing.
    """
    _refuse_to_train_nothing(cfg)
    for group, settings in _NOT_SUPPORTED.items():
        for name, reason in settings.items():
            if value := cfg[group][name]:
                raise InputError(f"{spelled(name, value)} is not supported: {reason}")
    for group, smallest in _SMALLEST.items():
        for name, number in smallest.items():
            if (value := cfg[group][name]) is not None and value < number:
                raise InputError(f"{flag(name)} {value}: give {number} or more")
    if min(cfg.optimization.update_freq) < 1:
        raise InputError(f"--update-freq {','.join(map(str, cfg.optimization.update_freq))}: give 1 or more")
    smoothing = getattr(cfg.criterion, "label_smoothing", 0.0)
    if not 0 <= smoothing < 1:
        raise InputError(f"--label-smoothing {smoothing}: give a probability, at least 0 and below 1")
    if cfg.checkpoint.keep_interval_updates_pattern == 0:
        raise InputError("--keep-interval-updates-pattern 0: give a positive number, or leave it out")
    if cfg.dataset.update_ordered_indices_seed and not cfg.dataset.update_epoch_batch_itr:
        raise InputError(
            "--update-ordered-indices-seed needs --update-epoch-batch-itr True: otherwise sentences are grouped into "
            "batches once, with one seed"
        )
    if cfg.common.profile and not torch.cuda.is_available():
        raise InputError("--profile marks the operations of a GPU, but no GPU is visible")
    if cfg.common.amp and (cfg.common.cpu or not torch.cuda.is_available()):
        raise InputError(
            "--amp needs a GPU: on a CPU it would change nothing; give --bf16, or nothing to train in float32"
        )
    if cfg.dataset.num_shards > 1:
        raise InputError(
            f"--num-shards {cfg.dataset.num_shards} is for translating: a training always uses all of its data"
        )
    _refuse_missing_packages(cfg)
    validation_bleu.refuse_bad_arguments(cfg)


def refuse_two_precisions(argv: list[str]) -> None:
    """Check that the flags ask for one precision; fairseq's parser would speak of TPUs.

    Raises:
        InputError: they ask for several.
    """
    given = [name for name in _PRECISIONS if name in argv]
    kinds = {_PRECISIONS[name] for name in given}
    if len(kinds) > 1:
        raise InputError(f"{' and '.join(given)} are two precisions of one training: drop one of them")


def refuse_separate_runs(cfg: FairseqConfig, argv: list[str]) -> None:
    """Check that the processes of a launcher train one run; fairseq looks for one GPU's others only if told to.

    Raises:
        InputError: each would train a run of its own, into the same folder.
    """
    is_given = any(arg.split("=")[0] == "--distributed-world-size" for arg in argv)
    started = os.environ.get("WORLD_SIZE", "1")
    if (
        cfg.distributed_training.distributed_world_size == 1
        and not is_given
        and "RANK" in os.environ
        and started != "1"
    ):
        raise InputError(
            f"WORLD_SIZE={started} says that a launcher started {started} processes, but at most one GPU is visible to "
            f"each, so that each would train a run of its own; add --distributed-world-size {started}, or 1 if that "
            "is meant"
        )


def refuse_bad_schedule(cfg: FairseqConfig, start: resuming.Start) -> None:
    """Build the schedule of learning rates for one parameter, and ask for the first ones.

    Raises:
        InputError: there are none, or a new run would end with the first one.
    """
    try:
        optimizer = optim.build_optimizer(copy.deepcopy(cfg.optimizer), [torch.nn.Parameter(torch.zeros(1))])
    except Exception:
        return  # it needs the real parameters; what is wrong with it will be said when they exist
    try:
        schedule = lr_scheduler.build_lr_scheduler(copy.deepcopy(cfg.lr_scheduler), optimizer)
        schedule.step(1)
        first = schedule.step_update(0)
        schedule.step_begin_epoch(1)
        for update in (1, 2):
            schedule.step_update(update)
    except (ArithmeticError, AssertionError, ValueError) as error:
        settings = " ".join(spelled(name, value) for name, value in _schedule_settings(cfg.lr_scheduler))
        raise InputError(
            f"--lr-scheduler {cfg.lr_scheduler._name} gives no learning rates with {settings} ({error})"
        ) from None
    if start.path is None and isinstance(first, float | int) and first <= cfg.optimization.stop_min_lr:
        raise InputError(
            f"--stop-min-lr {cfg.optimization.stop_min_lr} would end the run before its first update, since the "
            f"learning rate begins with {first}; give a smaller one, or a larger --warmup-init-lr"
        )


def warn_of_flags_without_effect(cfg: FairseqConfig) -> None:
    """Log each flag that was given and that another one leaves without effect."""
    for given, because in _without_effect(cfg):
        logger.warning(f"{given} has no effect {because}")


def warn_of_slow_precision(cfg: FairseqConfig) -> None:
    """Log that a processor without instructions for bfloat16 takes much longer with it."""
    is_on_cpu = cfg.common.cpu or not torch.cuda.is_available()
    if is_on_cpu and (cfg.common.bf16 or cfg.common.memory_efficient_bf16) and not computes_bfloat16():
        logger.warning(
            "--bf16: this processor has no instructions for bfloat16 (avx512_bf16, amx_bf16), so training takes "
            "several times as long as in float32; drop the flag"
        )


def refuse_missing_files(cfg: FairseqConfig, start: resuming.Start) -> None:
    """Check the files and folders that the flags name and that fairseq misses only later, or never.

    Raises:
        InputError: one is missing.
    """
    for folder in str(getattr(cfg.task, "data", None) or "").split(":"):
        if folder and not Path(folder).exists():
            raise InputError(f"{folder}: there is no such folder of data")
    _refuse_missing_parts(cfg)
    if cfg.common.log_file and not Path(cfg.common.log_file).absolute().parent.is_dir():
        raise InputError(f"--log-file {cfg.common.log_file}: there is no folder {Path(cfg.common.log_file).parent}")
    profile = getattr(cfg.model, "admin_profile", None)
    if profile and start.path is None and not Path(profile).absolute().parent.is_dir():
        raise InputError(f"--admin-profile {profile}: there is no folder {Path(profile).parent}")


def refuse_without_optimizer(start: resuming.Start) -> None:
    """Check that a run can continue from its checkpoint; from weights alone fairseq would count updates from 0.

    Raises:
        InputError: the checkpoint has nothing but weights.
    """
    needs_it = start.path is not None and not start.is_fine_tuning and "reset_optimizer" not in start.resets
    if needs_it and not resuming.has_optimizer_state(start.state):
        raise InputError(
            f"{start.path} has no state of the optimizer (it is an average, or was written with "
            f"--no-save-optimizer-state), so no run can continue after its update {resuming.updates(start.state)}; "
            + HOW_TO_BEGIN_AGAIN
        )


def _refuse_to_train_nothing(cfg: FairseqConfig) -> None:
    settings = cfg.distributed_training
    spawns = not settings.distributed_no_spawn and settings.distributed_world_size > 1
    if spawns and not torch.cuda.is_available() and not cfg.common.tpu:
        raise InputError(
            f"--distributed-world-size {settings.distributed_world_size}, but no GPU is visible, so fairseq would "
            "start no process at all; check CUDA_VISIBLE_DEVICES, or start each process yourself with "
            "--distributed-no-spawn"
        )


def _refuse_missing_packages(cfg: FairseqConfig) -> None:
    for name, (module, package) in _LOGGERS.items():
        if (value := cfg.common[name]) and getattr(progress_bar, module) is None:
            raise InputError(f"{spelled(name, value)} needs {package}, which is not installed: pip install {package}")


def _schedule_settings(settings: DictConfig) -> Iterator[tuple[str, object]]:
    """Yield the settings from which the learning rates follow, with their values."""
    for name in map(str, settings):
        if name == "lr":
            yield name, ",".join(map(str, settings[name]))
        elif any(word in name for word in ("update", "step", "period")):
            yield name, settings[name]


def _refuse_missing_parts(cfg: FairseqConfig) -> None:
    """Refuse data without a part that fairseq would notice when an epoch begins, or would do without."""
    subset, folders = cfg.dataset.train_subset, str(getattr(cfg.task, "data", None) or "").split(":")
    for folder in folders[1:]:
        if "," not in subset and not any(Path(folder).glob(f"{subset}.*")):
            raise InputError(f"{folder} has no data named {subset}, which --train-subset asks for")
    if getattr(cfg.task, "load_alignments", False):
        for folder in folders:
            if not any(Path(folder).glob(f"{subset}.align.*")):
                raise InputError(
                    f"--load-alignments: {folder} has no {subset}.align.*; give fairseq-preprocess --align-suffix"
                )


def _without_effect(cfg: FairseqConfig) -> Iterator[tuple[str, str]]:
    """Yield flags as they were given, and why they have no effect."""
    saving, task = cfg.checkpoint, cfg.task
    if cfg.dataset.disable_validation:
        names = ("patience", "keep_best_checkpoints")
        yield from ((spelled(name, saving[name]), "with --disable-validation") for name in names if saving[name] > 0)
        if saving.best_checkpoint_metric != "loss":
            yield f"--best-checkpoint-metric {saving.best_checkpoint_metric}", "with --disable-validation"
    if saving.keep_interval_updates > 0 and saving.save_interval_updates <= 0:
        yield f"--keep-interval-updates {saving.keep_interval_updates}", "without --save-interval-updates"
    if saving.keep_last_epochs > 0 and saving.no_epoch_checkpoints:
        yield f"--keep-last-epochs {saving.keep_last_epochs}", "with --no-epoch-checkpoints"
    if getattr(task, "subword_sampling", None) is None:
        for name in ("subword_model", "target_subword_model"):
            if getattr(task, name, None):
                yield spelled(name, task[name]), "without --subword-sampling"
    if not getattr(task, "eval_bleu", True):
        defaults = {"eval_bleu_args": "{}", "eval_bleu_detok": "space", "eval_bleu_detok_args": "{}"}
        for name in ("eval_tokenized_bleu", "eval_bleu_print_samples", "eval_bleu_remove_bpe", *defaults):
            if task[name] and task[name] != defaults.get(name):
                yield spelled(name, task[name]), "without --eval-bleu"
    if not cfg.ema.store_ema:
        for name, default in {
            "ema_decay": 0.9999,
            "ema_start_update": 0,
            "ema_seed_model": None,
            "ema_fp32": False,
        }.items():
            if cfg.ema[name] != default:
                yield spelled(name, cfg.ema[name]), "without --store-ema"

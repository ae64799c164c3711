"""Validation that costs no training: it is tried before the first update, and what fails in it loses no epoch."""

from __future__ import annotations

import functools

import numpy as np
from fairseq import checkpoint_utils
from fairseq.logging import metrics

from b2t_common.errors import InputError

from . import stopping


def with_reason(get_valid_iterator):
    """Return ``Trainer.get_valid_iterator`` that says in one line why sentences cannot be validated."""

    @functools.wraps(get_valid_iterator)
    def wrapper(self, subset, *args, **kwargs):
        try:
            return get_valid_iterator(self, subset, *args, **kwargs)
        except Exception as error:
            if "skip-invalid-size-inputs" in str(error):
                raise InputError(f"--valid-subset {subset}: {error}, or give larger --max-...-positions") from None
            if "should not exceed max_tokens" in str(error):
                dataset = self.task.dataset(subset)
                longest = dataset.num_tokens_vec(np.arange(len(dataset))).max()
                raise InputError(
                    f"--max-tokens-valid {self.cfg.dataset.max_tokens_valid}: a sentence of {subset!r} has {longest} "
                    "tokens; give as many or more"
                ) from None
            raise

    return wrapper


def with_rehearsal(train):
    """Return ``fairseq_cli.train.train`` that validates one batch of each set before the first update of a process."""

    @functools.wraps(train)
    def wrapper(cfg, trainer, task, epoch_itr):
        if stopping.is_training() and not cfg.dataset.disable_validation and not hasattr(trainer, "_b2t_rehearsed"):
            trainer._b2t_rehearsed = True
            for subset in cfg.dataset.valid_subset.split(","):
                _rehearse(cfg, trainer, subset)
        return train(cfg, trainer, task, epoch_itr)

    return wrapper


def _rehearse(cfg, trainer, subset: str) -> None:
    """Validate one batch.

    Raises:
        InputError: the validation does not compute ``--best-checkpoint-metric``.
    """
    batch = trainer.get_valid_iterator(subset).first_batch
    if batch == "DUMMY":  # a data set from which only the processes that load data can read
        return
    with metrics.aggregate(new_root=True) as meters:
        trainer.valid_step(batch)
    metrics.reset_meters("valid")
    known = sorted(meters.get_smoothed_values())
    metric = cfg.checkpoint.best_checkpoint_metric
    if metric not in known and not _is_bleu(cfg, metric):
        hint = "; bleu needs --eval-bleu" if metric == "bleu" else ""
        raise InputError(
            f"--best-checkpoint-metric {metric}: the validation of {subset!r} computes {', '.join(known)}{hint}"
        )


def with_checkpoint_first(validate):
    """Return ``fairseq_cli.train.validate`` that saves what has been trained before a validation can end the run.

    Before the first validation of a process a checkpoint is written in any case, because not every failure can be
    caught; afterwards only when it fails.
    """

    @functools.wraps(validate)
    def wrapper(cfg, trainer, task, epoch_itr, subsets):
        if not stopping.is_training():
            return validate(cfg, trainer, task, epoch_itr, subsets)
        is_first = not hasattr(trainer, "_b2t_validated")
        if is_first:
            checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        try:
            losses = validate(cfg, trainer, task, epoch_itr, subsets)
        except Exception:
            if not is_first and not _needs_others(trainer):
                checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
            raise
        trainer._b2t_validated = True
        return losses

    return wrapper


def _needs_others(trainer) -> bool:
    """Whether saving waits for other processes, in which the validation may not have failed."""
    return trainer.is_fsdp or hasattr(trainer.optimizer.optimizer, "consolidate_state_dict")


def with_bleu_of_nothing(get_valid_stats):
    """Return ``fairseq_cli.train.get_valid_stats`` that has a BLEU of 0 if all translations are empty."""

    @functools.wraps(get_valid_stats)
    def wrapper(cfg, trainer, stats, tracking_best):
        if _is_bleu(cfg, cfg.checkpoint.best_checkpoint_metric):
            stats.setdefault("bleu", 0.0)
        return get_valid_stats(cfg, trainer, stats, tracking_best)

    return wrapper


def _is_bleu(cfg, metric: str) -> bool:
    return metric == "bleu" and bool(getattr(cfg.task, "eval_bleu", False))

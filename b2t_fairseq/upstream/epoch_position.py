"""Where in an epoch a run continues: the same sentences are left, whatever the number of processes.

fairseq stores how many batches each process has had.  For another number of processes that is another place, and for
other batches it is none.
"""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from b2t_common.errors import InputError
from b2t_common.names import flag

from .. import checkpoints

logger = logging.getLogger(__name__)

_BATCH_SETTINGS = {
    "task": (
        "max_source_positions",
        "max_target_positions",
        "tokens_per_sample",
        "sample_break_mode",
        "subword_sampling",
        "subword_model",
        "target_subword_model",
    ),
    "dataset": (
        "max_tokens",
        "batch_size",
        "required_batch_size_multiple",
        "train_subset",
        "grouped_shuffling",
        "update_ordered_indices_seed",
    ),
    "common": ("seed",),
}
"""The settings on which the batches of an epoch depend, by fairseq's groups of settings."""


def with_description_of_batches(state_dict):
    """Return ``EpochBatchIterator.state_dict`` that says, within an epoch, of which batches the position is one."""

    @functools.wraps(state_dict)
    def wrapper(self):
        state = state_dict(self)
        return {**state, **_description(self)} if state["iterations_in_epoch"] else state

    return wrapper


def with_position_for_these_processes(load_state_dict):
    """Return ``EpochBatchIterator.load_state_dict`` that accepts the position of another number of processes.

    Raises:
        InputError: (by the replacement) the epoch has other batches now, so that no position is the same.
    """

    @functools.wraps(load_state_dict)
    def wrapper(self, state_dict):
        if state_dict.get("iterations_in_epoch", 0) > 0 and "num_shards" in state_dict:
            _refuse_other_batches(self, state_dict)
            state_dict = {**state_dict, "iterations_in_epoch": _position(self, state_dict)}
        load_state_dict(self, state_dict)

    return wrapper


def with_shuffling_of_this_epoch(get_iterator):
    """Return ``EpochBatchIterator._get_iterator_for_epoch`` that shuffles an epoch if that is asked for.

    fairseq uses the loader of the first epoch again, and with it whether that epoch was shuffled.
    """

    @functools.wraps(get_iterator)
    def wrapper(self, epoch, shuffle, fix_batches_to_gpus=False, offset=0):
        if self.dataloader is not None:
            self.epoch_batch_sampler.shuffle = shuffle
        return get_iterator(self, epoch, shuffle, fix_batches_to_gpus, offset)

    return wrapper


def complete(position: dict[str, Any], trainer, filename: str) -> None:
    """Add to a position within an epoch, as a checkpoint has it, what is needed to continue from it.

    Args:
        position: ``train_iterator`` of the checkpoint.
        trainer: has loaded the checkpoint.
        filename: of the checkpoint; one of an older version is asked for its settings.
    """
    if not position.get("iterations_in_epoch"):
        return
    cfg = checkpoints.load(filename).get("cfg") or {}
    if cfg:
        position.setdefault("num_shards", _group(cfg, "distributed_training").get("distributed_world_size"))
        position["changed"] = ", ".join(_changed_settings(cfg, trainer.cfg))
    frequencies = trainer.cfg.optimization.update_freq
    position["update_freq"] = frequencies[min(position["epoch"], len(frequencies)) - 1]


def _position(iterator, state: Mapping[str, Any]) -> int:
    """Return how many batches each of these processes has had, rounded down to whole updates."""
    before = state["iterations_in_epoch"]
    now = before * state["num_shards"] // iterator.num_shards
    now -= now % state.get("update_freq", 1)
    if (before, state["num_shards"]) != (now, iterator.num_shards):
        logger.info(
            f"the run continues in epoch {state['epoch']} after {now} batches in each of {iterator.num_shards} "
            f"process(es), for {before} batches in each of {state['num_shards']} before"
        )
    return now


def _refuse_other_batches(iterator, state: Mapping[str, Any]) -> None:
    then, now = ({name: s.get(name) for name in ("num_batches", "checksum")} for s in (state, _description(iterator)))
    changed = state.get("changed", "")
    is_same = then == now if then["checksum"] is not None else not changed
    if is_same and (state["num_shards"] == iterator.num_shards or not iterator.grouped_shuffling):
        return
    what = f"{now['num_batches']} other batches"
    if is_same:
        changed = f"{state['num_shards']} processes there, {iterator.num_shards} here, with --grouped-shuffling"
        what = f"its {now['num_batches']} batches in another order"
    had = state["iterations_in_epoch"] * state["num_shards"]
    raise InputError(
        f"the checkpoint was written after {had} of {then['num_batches'] or 'the'} batches of epoch {state['epoch']}, "
        f"but with these flags and data that epoch has {what} ({changed or 'the data are not the same'}), so it is not "
        "known which sentences are left. Give the flags of that run until the epoch ends, or add --reset-dataloader: "
        "weights, optimizer and number of updates stay, and the epochs are counted from 1 again, so that "
        "checkpoint1.pt and the following are written anew"
    )


def _description(iterator) -> dict[str, int]:
    batches = iterator.frozen_batches
    if getattr(iterator, "_b2t_described", (None,))[0] is not batches:
        iterator._b2t_described = (batches, _checksum(batches, zlib.crc32(str(iterator.seed).encode())))
    return {
        "num_shards": iterator.num_shards,
        "num_batches": len(batches),
        "checksum": iterator._b2t_described[1],
    }


def _checksum(batches: Iterable, start: int) -> int:
    """Return a checksum of lists of sentences, or of lists of such lists, in their order."""
    for batch in batches:
        if len(batch) and not np.isscalar(batch[0]):
            start = _checksum(batch, start)
        else:
            start = zlib.crc32(np.asarray([len(batch), *batch], dtype=np.int64).tobytes(), start)
    return start


def _group(cfg: Mapping[str, Any], name: str) -> dict[str, Any]:
    return checkpoints.flat_settings(cfg.get(name) or {})


def _changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for name, settings in _BATCH_SETTINGS.items():
        theirs, ours = _group(before, name), _group(now, name)
        for setting in settings:
            if setting in theirs and setting in ours and theirs[setting] != ours[setting]:
                yield f"{flag(setting)} {theirs[setting]} there, {ours[setting]} here"

"""Models are read from memory-mapped checkpoints: once, and without the optimizer's state beside them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.dataclass.utils import overwrite_args_by_name
from omegaconf import OmegaConf

from .. import checkpoints


def with_mapped_files(load_model_ensemble_and_task):
    """Return ``load_model_ensemble_and_task`` that maps its files into memory.

    fairseq reads all of a file, and a training checkpoint is three times as large as its model.  A mapped file is read
    where and when a tensor is copied into the model.  A trainer does not map its checkpoints: it would write new ones
    over files that are still in use.
    """

    @functools.wraps(load_model_ensemble_and_task)
    def wrapper(filenames, arg_overrides=None, task=None, strict=True, suffix="", num_shards=1, state=None):
        if state is not None or num_shards > 1:
            return load_model_ensemble_and_task(filenames, arg_overrides, task, strict, suffix, num_shards, state)
        ensemble, cfg = [], None
        for filename in filenames:
            path = checkpoint_utils.get_maybe_sharded_checkpoint_filename(filename, suffix, 0, num_shards)
            state = _read(path, arg_overrides) if Path(path).is_file() else None
            models, cfg, task = load_model_ensemble_and_task([filename], arg_overrides, task, strict, suffix, 1, state)
            ensemble += models
        return ensemble, cfg, task

    return wrapper


def _read(path: str, arg_overrides: dict[str, Any] | None) -> dict[str, Any]:
    """Return what fairseq's ``load_checkpoint_to_cpu`` returns for a local file."""
    state = checkpoints.load(path)
    overrides = arg_overrides or {}
    if state.get("args") is not None:
        vars(state["args"]).update(overrides)
    if state.get("cfg") is not None:
        state["cfg"] = OmegaConf.create(state["cfg"], flags={"allow_objects": True})
        overwrite_args_by_name(state["cfg"], overrides)
    return checkpoint_utils._upgrade_state_dict(state)

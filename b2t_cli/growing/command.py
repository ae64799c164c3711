"""Reads a checkpoint, grows its model, and writes the checkpoint of the deeper one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import is_one_of
from b2t_common.names import STACKS, flag
from b2t_fairseq import checkpoints
from b2t_fairseq.building import load_strictly
from b2t_fairseq.settings.plan import plan_of_checkpoint
from b2t_fairseq.sharing import ALL_SUBLAYERS, NO_SHARING
from b2t_fairseq.upstream.resuming import newest_checkpoint

from . import models, sources, tensors

# how a model shares that shares nothing; the omegas of an old profile are those of other layers
_UNSHARED: dict[str, Any] = {
    "layer_sharing": NO_SHARING,
    "encoder_unique_layers": None,
    "decoder_unique_layers": None,
    "share_encoder_decoder": False,
    "share_sublayers": ALL_SUBLAYERS,
    "share_norms": True,
    "admin_profile": None,
}


def grow(run: Path, layers: Mapping[str, int | None], order: str | None, output: Path) -> list[str]:
    """Write the checkpoint of a deeper model; return a report in lines.

    Args:
        run: the folder of a run, or a checkpoint.
        layers: the number of layers of each stack, ``None`` for as many as now.
        order: a strategy, or the set as which each layer starts; ``None`` unties the model.
        output: the file to write.

    Raises:
        InputError: there is no such checkpoint, or its model cannot grow in this way; nothing is written then.
    """
    checkpoint = newest_checkpoint(run) if run.is_dir() else run
    if checkpoint is None:
        raise InputError(f"{run} has no {run_folder.LAST_CHECKPOINT} and no other checkpoint of a training")
    if is_one_of(output, [checkpoint]):
        raise InputError(f"--output {output} is the checkpoint itself; give another file to write")
    state = checkpoints.load(checkpoint)
    try:
        grown, report = _grown(state, layers, order)
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from None
    checkpoints.save(grown, output)
    return [*report, f"{output}: train it on with --finetune-from-model"]


def _grown(
    state: Mapping[str, Any], layers: Mapping[str, int | None], order: str | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the checkpoint of the deeper model, and what to tell of it."""
    settings = _settings(state)
    plan = plan_of_checkpoint(settings)
    depths = sources.depths(plan, layers, order)
    unchanged = sources.are_unchanged(plan, depths)
    changed = {name: value for name, value in _UNSHARED.items() if name in settings}
    changed |= {f"{stack}_layers": len(listed) for stack, listed in depths.items()}
    sizes = models.vocabulary_sizes(state["model"])
    deep = models.build({**settings, **changed}, sizes)
    dtype = next(tensor.dtype for tensor in state["model"].values() if tensor.is_floating_point() and tensor.dim() > 1)
    deep.to(dtype)
    weights = tensors.grown(deep, state["model"], depths)
    load_strictly(deep, weights)
    report = [f"{stack}: {len(d)} layers, which start as the layers {_join(d)}" for stack, d in depths.items()]
    if unchanged:
        shallow = models.build(settings, sizes).to(dtype)
        load_strictly(shallow, state["model"])
        report.append(models.compare(deep, shallow))
    parameters = sum(parameter.numel() for parameter in deep.parameters())
    report.append(f"{parameters:,} parameters, without sharing; without the optimizer's state")
    return _checkpoint(state, changed, _with_dictionaries(deep.state_dict(), state["model"])), report


def _settings(state: Mapping[str, Any]) -> dict[str, Any]:
    settings = checkpoints.model_settings(state)
    if "residual" not in settings or "layer_sharing" not in settings:
        raise InputError(
            f"it is of the model {settings.get('_name') or settings.get('arch')}; only models of this plugin grow"
        )
    for stack in STACKS:
        name = f"{stack}_layers_to_keep"
        if settings.get(name):
            raise InputError(f"{flag(name)} {settings[name]}: a pruned model does not grow; give the whole one")
    return settings


def _checkpoint(state: Mapping[str, Any], changed: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a checkpoint at the beginning of the data, with changed settings of the model and without an optimizer."""
    cfg, args = state.get("cfg"), state.get("args")
    if cfg is not None and cfg.get("model") is not None:
        cfg = {**cfg, "model": checkpoints.with_changes(cfg["model"], changed)}
    if args is not None:
        args = checkpoints.with_changes(args, changed)
    begin = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "shuffle": True}}
    return {
        **state,
        "cfg": cfg,
        "args": args,
        "model": weights,
        "last_optimizer_state": None,
        "extra_state": begin,
    }


def _with_dictionaries(weights: Any, original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add to the weights with which dictionaries the original was trained; the grown model was built without any."""
    metadata, theirs = weights._metadata, getattr(original, "_metadata", {})
    for stack in STACKS:
        if "dictionary" in theirs.get(stack, {}):
            metadata[stack]["dictionary"] = theirs[stack]["dictionary"]
    return weights


def _join(depths: list[int]) -> str:
    return " ".join(map(str, depths))

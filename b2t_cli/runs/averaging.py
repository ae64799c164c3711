"""The mean of several checkpoints of one run: what ``b2t average`` writes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from b2t_common.errors import InputError
from b2t_fairseq import checkpoints


def average(files: list[Path]) -> dict[str, Any]:
    """Return a checkpoint whose model is the mean of the files' models, without optimizer state.

    Sums are kept in float32.  At most two checkpoints are in memory at a time.

    Raises:
        InputError: the files are of different models.
    """
    first = checkpoints.load(files[0])
    model = first["model"]
    averaged: OrderedDict[str, Any] = OrderedDict.fromkeys(model)
    for group, total in _sums(first, files):
        mean = total / len(files) if total.is_floating_point() else total // len(files)
        averaged.update(dict.fromkeys(group, mean.to(model[group[0]].dtype)))
    if hasattr(model, "_metadata"):
        averaged._metadata = model._metadata  # type: ignore[attr-defined]  # PyTorch adds it to each state dict
    extra_state = {k: v for k, v in (first.get("extra_state") or {}).items() if not k.startswith("ema")}
    return {**first, "model": averaged, "last_optimizer_state": None, "extra_state": extra_state}


def _sums(first: Mapping[str, Any], files: list[Path]) -> list[tuple[list[str], Tensor]]:
    """Return the names of the tensors that are equal in every file, group by group, and the sum over the files."""
    groups = checkpoints.tied_groups(first["model"])
    totals: dict[str, Tensor] = {}
    for file in files:
        state = checkpoints.load(file)
        _refuse_other_model(first, files[0], state, file)
        finer = checkpoints.tied_groups(state["model"], groups)
        # when a group is split, its parts were equal in all files so far, so each starts from the sum of the group
        owners = {name: group[0] for group in groups for name in group}
        totals = {group[0]: _add(totals.get(owners[group[0]]), state["model"][group[0]]) for group in finer}
        groups = finer
    return [(group, totals[group[0]]) for group in groups]


def _add(total: Tensor | None, tensor: Tensor) -> Tensor:
    value = tensor.to(torch.float32) if tensor.is_floating_point() else tensor
    return value.clone() if total is None else total + value


def _refuse_other_model(first: Mapping[str, Any], first_file: Path, other: Mapping[str, Any], file: Path) -> None:
    problem = f"{file} is not the same model as {first_file}"
    shapes, other_shapes = ({name: tuple(t.shape) for name, t in state["model"].items()} for state in (first, other))
    if shapes != other_shapes:
        names = sorted(n for n in shapes.keys() | other_shapes.keys() if shapes.get(n) != other_shapes.get(n))
        raise InputError(f"{problem}: {len(names)} tensors differ in name or shape, for instance {names[0]}")
    settings = [checkpoints.model_settings(state) for state in (first, other)]
    different = checkpoints.differing_settings(*settings)
    if different:
        name, (ours, theirs) = next(iter(different.items()))
        raise InputError(f"{problem}: {name} is {theirs} there and {ours} in the first")

"""The state of an optimizer for all parameters in one tensor, as ``--fp16`` has it, and for each parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Size, Tensor


def is_flat(common) -> bool:
    """Whether a run with the settings ``cfg.common`` steps all parameters as one tensor."""
    is_plain_fp16 = common.fp16 and not common.memory_efficient_fp16 and not common.memory_efficient_bf16
    return bool(is_plain_fp16 and not common.bf16 and not common.fp16_no_flatten_grads)


def fitting(state: Mapping[str, Any], shapes: Sequence[Size], flat: bool) -> dict[str, Any]:
    """Return the state of an optimizer for parameters that are flattened, or are not.

    Args:
        state: what ``state_dict`` of a PyTorch optimizer returns.
        shapes: of the parameters that are trained, in the order of the model.
        flat: whether all of them shall be one tensor.

    Returns:
        The state itself if it fits, or if it is of other parameters, which the optimizer will say.
    """
    groups = state.get("param_groups") or []
    if len(groups) != 1 or len(shapes) < 2:
        return dict(state)
    num_stored = len(groups[0]["params"])
    if flat and num_stored == len(shapes):
        states, parameters = {0: _flattened(state["state"], shapes)}, [0]
    elif not flat and num_stored == 1 and _are_of(state["state"].get(0, {}), sum(map(Size.numel, shapes))):
        states = dict(enumerate(_split(state["state"].get(0, {}), shapes)))
        parameters = list(range(len(shapes)))
    else:
        return dict(state)
    return {**state, "state": states, "param_groups": [{**groups[0], "params": parameters}]}


def _are_of(state: Mapping[str, Any], size: int) -> bool:
    """Whether the tensors of a state are as large as ``size`` parameters."""
    return all(value.numel() in (1, size) for value in state.values() if isinstance(value, Tensor))


def _split(state: Mapping[str, Any], shapes: Sequence[Size]) -> list[dict[str, Any]]:
    """Return the state of each parameter."""
    sizes = [shape.numel() for shape in shapes]
    states: list[dict[str, Any]] = [{} for _ in shapes]
    for name, value in state.items():
        is_part_of_all = isinstance(value, Tensor) and value.numel() == sum(sizes)
        parts = value.flatten().split(sizes) if is_part_of_all else [value] * len(shapes)
        for own, part, shape in zip(states, parts, shapes, strict=True):
            own[name] = part.reshape(shape).clone() if is_part_of_all else part
    return states


def _flattened(states: Mapping[int, Mapping[str, Any]], shapes: Sequence[Size]) -> dict[str, Any]:
    """Return the state of all parameters as one.

    A parameter that had no gradient yet has no state: its moving averages are zero.  Numbers such as the count of
    updates can differ between parameters only because of that, so the largest one is that of the run.
    """
    names = dict.fromkeys(chain.from_iterable(states.values()))
    flattened: dict[str, Any] = {}
    for name in names:
        values = [states.get(number, {}).get(name) for number in range(len(shapes))]
        tensors = [value for value in values if isinstance(value, Tensor) and value.dim() > 0]
        if tensors:
            parts = zip(values, shapes, strict=True)
            flattened[name] = torch.cat([_flat_or_zeros(value, shape, tensors[0]) for value, shape in parts])
        else:
            flattened[name] = max(value for value in values if value is not None)
    return flattened


def _flat_or_zeros(value: Tensor | None, shape: Size, like: Tensor) -> Tensor:
    return like.new_zeros(shape.numel()) if value is None else value.flatten()

"""Linear maps whose weights oneDNN has put into the order in which it reads them, for translation on a CPU.

With few rows a product takes as long as its weight takes to be read.  MKL, which PyTorch calls, and oneDNN put parts of
a weight into another order in each product.  Here this is done once, so that a product of a few rows takes half of the
time.  It costs the memory of one more copy of the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from .linear import is_plain

logger = logging.getLogger(__name__)

# oneDNN chooses the order for a number of rows; products of more or fewer rows read it too.
ROWS = 16
# Smaller weights stay in the processor's cache, and MKL's products of them begin earlier than oneDNN's.
_SMALLEST = 2**17


class ReorderedLinear:
    """``x W^T + b`` of one or several linear layers side by side, whose weights are reordered.

    Args:
        layers: the layers; their outputs are concatenated.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.layers, self.state = tuple(layers), _state(layers)
        weights, biases = [layer.weight.detach() for layer in layers], [layer.bias for layer in layers]
        self.weight = torch.ops.mkldnn._reorder_linear_weight(torch.cat(weights), ROWS)
        self.bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``(..., sum of out_dim)`` for ``x``, ``(..., in_dim)``."""
        return torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, "none", [], "")

    def is_usable(self) -> bool:
        """Return whether this may compute the maps: no gradient is needed, and the weights have not changed."""
        is_special = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        return not is_special and self.state == _state(self.layers)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of the model is without the reordered weights, which can be neither copied nor stored.
        return type(None), ()


def _state(layers: Sequence[nn.Linear]) -> list[tuple[int, int]]:
    """Return what changes when the weights of layers do."""
    parameters = (p for layer in layers for p in (layer.weight, layer.bias) if p is not None)
    return [(parameter.data_ptr(), parameter._version) for parameter in parameters]


def reorder_weights(model: nn.Module) -> int:
    """Let the linear layers of a model read reordered weights where no gradient is needed; return how many weights.

    The parameters stay as they are.  A weight that changes later is read as before.
    """
    if not can_reorder():
        return 0
    made: dict[tuple[int, ...], ReorderedLinear] = {}

    def reordered(*layers: nn.Linear) -> ReorderedLinear | None:
        if not all(map(_is_suitable, layers)) or sum(layer.weight.numel() for layer in layers) < _SMALLEST:
            return None
        key = tuple(id(parameter) for layer in layers for parameter in (layer.weight, layer.bias))
        if key not in made:
            made[key] = ReorderedLinear(layers)
        return made[key]

    with torch.no_grad():
        for owner, name, layers in _products(model):
            product = reordered(*layers)
            if product is not None:
                vars(owner).setdefault("reordered", {})[name] = product
    if made:
        size = sum(product.weight.numel() * product.weight.element_size() for product in made.values())
        logger.info(f"{len(made)} weights of linear layers reordered for oneDNN: {size / 2**20:.0f} MiB more memory")
    return len(made)


def _products(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, ...], list[nn.Linear]]]:
    """Yield the products that a model computes: the module that has them, their name in it, and their layers."""
    joined = set()
    for attention in model.modules():
        if isinstance(attention, MultiheadAttention):
            names = ("q", "k", "v") if attention.self_attention else ("k", "v")
            layers = [getattr(attention, f"{name}_proj") for name in names]
            if all(is_plain(layer) and layer.bias is not None for layer in layers):
                joined.update(layers)
                yield attention, names, layers
    for layer in model.modules():
        if is_plain(layer) and layer not in joined:
            yield layer, (), [layer]


def _is_suitable(layer: nn.Linear) -> bool:
    weights = [layer.weight, *([] if layer.bias is None else [layer.bias])]
    return all(weight.dtype == torch.float32 and weight.is_cpu for weight in weights)


@cache
def can_reorder() -> bool:
    """Whether this PyTorch is one for x86 processors and has oneDNN with reordered weights."""
    has_libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return has_libraries and all(hasattr(torch.ops.mkldnn, name) for name in names)

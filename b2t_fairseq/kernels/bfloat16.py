"""Models in bfloat16, for translation: on a GPU as a whole, on a CPU the weights of the products.

A product with few rows takes as long as its weight takes to be read, and in bfloat16 it has half as many bytes.  On a
CPU the input of a product is rounded to bfloat16, sums are in float32, and the output is rounded again.  Embeddings,
the residual stream, norms, attention between the projections, and probabilities stay in float32, because a CPU is not
faster with them in bfloat16.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_common.processor import computes_bfloat16

from .reordered import ROWS, can_reorder
from .replaced import ReplacedLinear, replace_linear_layers

logger = logging.getLogger(__name__)


class BFloat16Linear(ReplacedLinear):
    """``x W^T + b`` with ``W`` in bfloat16, in the order in which oneDNN reads it where that is possible.

    Args:
        weight: ``(out_dim, in_dim)``, bfloat16.
        bias: ``(out_dim,)``, float32, or ``None``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.is_reordered = _can_reorder()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.is_reordered else weight
        self.bias = bias if self.is_reordered or bias is None else bias.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., out_dim)`` for ``x``, ``(..., in_dim)``, both in float32.

        Raises:
            InputError: ``x`` is not in float32 on a CPU.
        """
        if not x.is_cpu or x.dtype != torch.float32:
            raise InputError(
                f"weights in bfloat16 on a CPU need inputs in float32, but these are in {x.dtype} on {x.device}: leave "
                "the model as it was loaded, or load it without bf16 and call bfloat16() for a GPU"
            )
        x = x.bfloat16()
        if self.is_reordered:
            return torch.ops.mkldnn._linear_pointwise.default(x, self.packed, self.bias, "none", [], "").float()
        return F.linear(x, self.packed, self.bias).float()

    def unpacked(self) -> tuple[Tensor, Tensor]:
        """Return weight, ``(out_dim, in_dim)``, and bias, ``(out_dim,)``; no bias is zero."""
        weight = self.packed.to_dense() if self.is_reordered else self.packed
        return weight, torch.zeros(len(weight)) if self.bias is None else self.bias.float()

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def to_bfloat16(model: nn.Module) -> int:
    """Let a model compute its products in bfloat16, in place; return how many linear layers were replaced for that.

    On a GPU the whole model becomes one in bfloat16, and no layer is replaced.  On a CPU layers that share parameters
    share the weights in bfloat16, see :func:`.replaced.replace_linear_layers`.
    """
    if not all(parameter.is_cpu for parameter in model.parameters()):
        model.bfloat16()
        logger.info("bf16: the whole model is in bfloat16")
        return 0
    start = time.perf_counter()
    replaced, weights = replace_linear_layers(model, _in_bfloat16)
    if replaced:
        order = "reordered for oneDNN" if _can_reorder() else "in PyTorch's order"
        logger.info(
            f"bf16: {replaced} linear layers with {weights} different weights in bfloat16, {order}; everything else is "
            f"in float32 ({time.perf_counter() - start:.1f} s)"
        )
        if not is_fast():
            logger.warning(
                "bf16: this processor has no instructions for bfloat16 (avx512_bf16, amx_bf16), so translation takes "
                "longer than in float32; drop the flag"
            )
    return replaced


def _in_bfloat16(layer: Any) -> BFloat16Linear:
    return BFloat16Linear(layer.weight.detach().bfloat16(), None if layer.bias is None else layer.bias.detach())


@cache
def is_fast() -> bool:
    """Whether products in bfloat16 are faster than those in float32 on this processor."""
    return computes_bfloat16() and (_can_reorder() or not torch.backends.mkl.is_available())


@cache
def _can_reorder() -> bool:
    """Whether oneDNN has reordered weights in bfloat16 here."""
    return can_reorder() and torch.ops.mkldnn._is_mkldnn_bf16_supported()

"""Linear layers with 8-bit weights, for translation on a CPU.

A weight ``(out_dim, in_dim)`` becomes whole numbers from -127 to 127 with one scale for each output channel, that is
for each row.  This is done once, before the first sentence.  The input of each product becomes whole numbers from 0 to
255 with one scale and one zero point for the whole batch, so a translation may depend a little on the sentences beside
it.  Sums are exact, and everything between the products remains float32.

Processors without VNNI instructions add two products in 16 bits, which is too little for such numbers.  There the
weights keep to -63 to 63, so that sums are exact too.  Weights and not inputs become smaller, because each row of a
weight has its own scale and an input has one for the whole batch.

Of PyTorch's two libraries for x86, fbgemm is the faster one for few rows, and oneDNN for many if the processor has
AVX-512 with VNNI.  There a layer has its weights in the order of each, the second from its first large product on.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from b2t_common.errors import InputError

from .linear import instructions
from .replaced import ReplacedLinear, replace_linear_layers

logger = logging.getLogger(__name__)

# The engines that PyTorch may have, the fastest first: fbgemm for x86, qnnpack for other processors.
_ENGINES = ("fbgemm", "onednn", "qnnpack")

_FOR_MANY = "onednn"
# The setting of the engine is one of the whole process, and two threads may prepare weights.
_setting = Lock()

# Products of more numbers than this, rows times columns, are computed faster by oneDNN than by fbgemm.
_MANY = 2**18


class Int8Linear(ReplacedLinear):
    """``x W^T + b`` with ``W`` in 8 bits.

    Args:
        numbers: the weight as whole numbers, ``(out_dim, in_dim)``, int8.
        scales: what one unit of each row is, ``(out_dim,)``.
        bias: ``(out_dim,)``, float32, or ``None``.
    """

    def __init__(self, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = numbers.shape
        self.packed = _pack(numbers, scales, bias)
        self._packed_for_many: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., out_dim)`` for ``x``, ``(..., in_dim)``.

        Raises:
            InputError: ``x`` is not in float32 on a CPU.
        """
        if not x.is_cpu or x.dtype != torch.float32:
            raise InputError(
                f"8-bit weights need inputs in float32 on a CPU, but these are in {x.dtype} on {x.device}: leave the "
                "model as it was loaded, or load it without int8"
            )
        if x.numel() // self.in_features * self.out_features > _MANY and has_engine_for_many():
            if self._packed_for_many is None:
                self._packed_for_many = _pack(*self.unpacked(), _FOR_MANY)
            return _linear_dynamic()(x, self._packed_for_many)
        return _linear_dynamic()(x, self.packed)

    def unpacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return numbers, ``(out_dim, in_dim)``, scales and bias, ``(out_dim,)``; no bias is zero."""
        weight, bias = torch.ops.quantized.linear_unpack(self.packed)
        scales = weight.q_per_channel_scales()
        return weight.int_repr(), scales, torch.zeros(len(scales)) if bias is None else bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def quantize(model: nn.Module) -> int:
    """Replace the linear layers of a model, in place, by ones with 8-bit weights; return how many were replaced.

    Layers that share parameters share the 8-bit weights; see :func:`.replaced.replace_linear_layers`.

    Raises:
        InputError: this PyTorch has no 8-bit products, or the model is not in float32 on a CPU.
    """
    require_engine()
    start = time.perf_counter()
    replaced, weights = replace_linear_layers(model, _quantized)
    if replaced:
        logger.info(
            f"int8: {replaced} linear layers with {weights} different weights by {engine_name()}, weights from "
            f"-{largest_weight()} to {largest_weight()} ({time.perf_counter() - start:.1f} s)"
        )
    return replaced


def _quantized(layer: Any) -> Int8Linear:
    weight = layer.weight.detach()
    if weight.dtype != torch.float32 or not weight.is_cpu:
        raise InputError(
            f"8-bit weights are made from float32 on a CPU, but these are in {weight.dtype} on {weight.device}: drop "
            "--fp16 or --bf16, and add --cpu"
        )
    # A row of zeros keeps a scale that can be divided by.
    scales = (weight.abs().amax(dim=1) / largest_weight()).clamp_(min=torch.finfo(torch.float32).tiny)
    numbers = (weight / scales.unsqueeze(1)).round_().to(torch.int8)
    return Int8Linear(numbers, scales, None if layer.bias is None else layer.bias.detach())


def _pack(numbers: Tensor, scales: Tensor, bias: Tensor | None, engine: str | None = None) -> Any:
    """Return a weight and a bias as PyTorch's 8-bit products take them, see :class:`Int8Linear`.

    Args:
        numbers: ``(out_dim, in_dim)``, int8.
        scales: ``(out_dim,)``.
        bias: ``(out_dim,)``, or ``None``.
        engine: whose products; by default those that are faster for few rows.
    """
    zero_points = torch.zeros(len(scales), dtype=torch.long)
    with _engine(engine or engine_name()), warnings.catch_warnings():
        # PyTorch 2.13 announces that a later version will have other functions.
        warnings.simplefilter("ignore")
        weight = torch._make_per_channel_quantized_tensor(numbers, scales.double(), zero_points, 0)
        return torch.ops.quantized.linear_prepack(weight, bias)


@cache
def _linear_dynamic() -> Callable[..., Tensor]:
    """Return PyTorch's 8-bit product; the Python code around it looks for tensors that are not there."""
    operator = torch.ops.quantized.linear_dynamic
    return getattr(operator, "_op", operator)


def engine_name() -> str | None:
    """Return the name of the engine of 8-bit products that is used here, ``None`` if this PyTorch has none."""
    if not hasattr(torch.ops.quantized, "linear_dynamic") or not hasattr(torch, "_make_per_channel_quantized_tensor"):
        return None
    return next((name for name in _ENGINES if name in torch.backends.quantized.supported_engines), None)


def require_engine() -> None:
    """Raise InputError if this PyTorch has no 8-bit products."""
    if engine_name() is None:
        raise InputError(
            f"int8: this PyTorch, {torch.__version__}, has no 8-bit products of the engines {', '.join(_ENGINES)}: "
            "translate without int8, or install PyTorch 2.13 from https://pytorch.org"
        )


@cache
def has_engine_for_many() -> bool:
    """Whether oneDNN computes products of many rows faster than fbgemm, and exactly."""
    engines = torch.backends.quantized.supported_engines
    has_both = engine_name() == "fbgemm" and _FOR_MANY in engines
    return has_both and instructions() == "AVX512" and _largest_exact_weight(_FOR_MANY) == largest_weight() == 127


@contextmanager
def _engine(name: str | None) -> Iterator[None]:
    """Let PyTorch prepare weights for an engine; the setting is one of the whole process."""
    with _setting:
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = name or before
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


@cache
def largest_weight() -> int:
    """Return the largest whole number of a weight with which sums are exact on this processor, 127 or 63."""
    return _largest_exact_weight(engine_name())


def _largest_exact_weight(engine: str | None) -> int:
    """Try out an engine; which instructions it uses cannot be asked."""
    rows, columns, largest = 64, 256, 127
    packed = _pack(torch.full((rows, columns), largest, dtype=torch.int8), torch.ones(rows), None, engine)
    product = torch.ops.quantized.linear_dynamic(torch.full((1, columns), 255.0), packed)
    return largest if torch.allclose(product, torch.tensor(255.0 * largest * columns)) else largest // 2

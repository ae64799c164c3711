"""Products of float32 matrices on a CPU through oneDNN, where oneDNN is faster than the library that PyTorch calls.

PyTorch calls Intel's MKL for such products.  On processors that are not Intel's, MKL does not use AVX-512.  oneDNN is
also part of every PyTorch for x86; it uses AVX-512 there and is more than twice as fast.  With AVX2 it is up to a
quarter faster for all but a few rows.  Everywhere else these functions are PyTorch's own.  Results agree within
rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Products of fewer multiplications take less time than oneDNN needs to begin one.
_FEWEST = 2**19

_LEAST_ROWS = {"AVX512": 1, "AVX2": 32}
"""How many rows a product has at least that oneDNN computes faster than MKL, by the processor's instructions."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x weight^T + bias``, ``(..., out_dim)``, as ``torch.nn.functional.linear`` does.

    Args:
        x: ``(..., in_dim)``.
        weight: ``(out_dim, in_dim)``.
        bias: ``(out_dim,)``.
    """
    if not _is_for_onednn(x, weight.size(0)):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.size(-1))
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (rows, weight, bias)):
        product = _Linear.apply(rows, weight, bias)
    else:
        product = _onednn(rows, weight, bias)
    # A matrix is returned as it is, because an operation that overwrites a view costs a copy.
    return product if x.dim() == 2 else product.view(*x.shape[:-1], weight.size(0))


def matmul(first: Tensor, second: Tensor) -> Tensor:
    """Return ``first second``, ``(rows, columns)``, of two matrices; no gradient passes through it."""
    return _onednn(first, second.t(), None) if _is_for_onednn(first, second.size(1)) else first @ second


def linear_layer(module: nn.Module, x: Tensor) -> Tensor:
    """Return ``module(x)``, through :func:`linear` if the module is a linear layer and nothing more."""
    return as_function(module)(x)


def as_function(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the function that computes ``module(x)`` fastest, as long as the module's weights do not change."""
    product = reordered_product(module)
    if product is not None:
        return product
    return partial(linear, weight=module.weight, bias=module.bias) if is_plain(module) else module


def reordered_product(module: nn.Module, *names: str) -> Callable[[Tensor], Tensor] | None:
    """Return a product of a module whose weights :mod:`.reordered` has reordered, ``None`` if it may not be used.

    Args:
        module: a linear layer, or an attention.
        *names: the projections of an attention that the product joins.
    """
    products = vars(module).get("reordered")
    product = None if products is None else products.get(names)
    return product if product is not None and product.is_usable() else None


def is_plain(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a module is PyTorch's linear layer, neither quantized nor with hooks that change its weights."""
    return type(module) is nn.Linear and not module._forward_pre_hooks and not module._forward_hooks


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, weight, bias):
        ctx.save_for_backward(rows, weight)
        return _onednn(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        rows, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        wants_rows, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            _onednn(gradient, weight.t(), None) if wants_rows else None,
            _onednn(gradient.t(), rows.t(), None) if wants_weight else None,
            gradient.sum(dim=0) if wants_bias else None,
        )


def _onednn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def _is_for_onednn(x: Tensor, out_dim: int) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() * out_dim >= _FEWEST
        and onednn_is_faster()
        and x.numel() // x.size(-1) >= least_rows()
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def onednn_is_faster() -> bool:
    """Whether PyTorch has both libraries, and oneDNN is the faster one on the processor."""
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not libraries or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return instructions() in _LEAST_ROWS and not _is_from_intel()


@cache
def least_rows() -> int:
    """Return how many rows a product must have for oneDNN to be faster."""
    return _LEAST_ROWS.get(instructions(), 1)


def instructions() -> str:
    """Return the instructions that PyTorch uses on this processor, such as ``AVX512`` or ``AVX2``."""
    # "AVX512_VNNI" is another name that PyTorch has for "AVX512".
    return torch.backends.cpu.get_cpu_capability().split("_")[0]


def _is_from_intel() -> bool:
    description = Path("/proc/cpuinfo")
    return not description.exists() or "GenuineIntel" in description.read_text()

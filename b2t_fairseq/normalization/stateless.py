"""Norms that compute the same in training and in evaluation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from fairseq import modules as stock
from torch import Tensor, nn

from .contract import EPSILON, Norm


class LayerNorm(Norm):
    """Layer normalization, Ba et al. 2016 (arXiv 1607.06450): fairseq's own module."""

    name = "layer_norm"
    title = "LayerNorm"
    equation = "gamma (x - mean(x)) / sqrt(mean((x - mean(x))^2)) + beta"
    paper = "https://arxiv.org/abs/1607.06450"
    when_to_use = "the default, and that of both papers"

    @classmethod
    def build(cls, dim, heads, **settings):
        return stock.LayerNorm(dim)


class RMSNorm(Norm):
    """Root mean square norm, Zhang & Sennrich 2019 (arXiv 1910.07467), equation (4).

    Args:
        dim: length of the vectors to normalize.
        rms_norm_bias: add a trainable vector, as LayerNorm does.
    """

    name = "rms_norm"
    title = "RMSNorm"
    equation = "gamma x / sqrt(mean(x^2))"
    paper = "https://arxiv.org/abs/1910.07467"
    when_to_use = "fewer operations on a GPU; the norm of most language models"
    flags = ("rms_norm_bias",)
    flags_of_stacks = ("center_embedding",)

    def __init__(self, dim: int, rms_norm_bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if rms_norm_bias else None

    def forward(self, x: Tensor) -> Tensor:
        is_float32 = x.dtype == self.weight.dtype == torch.float32
        if x.device.type == "cpu" and is_float32 and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            x = _RMSNormOnCPU.apply(x, self.weight)
        else:
            x = F.rms_norm(x, self.weight.shape, self.weight, EPSILON)
        return x if self.bias is None else x + self.bias


class _RMSNormOnCPU(torch.autograd.Function):
    """``F.rms_norm`` in half of its time, because PyTorch has no kernel for it on a CPU.

    The backward pass is that of LayerNorm with a mean of 0, which has a kernel, but for the gradient of the mean.
    """

    @staticmethod
    def forward(ctx, x, weight):
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.size(-1))
        inverse = mean_square.add_(EPSILON).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight, inverse = ctx.saved_tensors
        mean, grad_output = torch.zeros_like(inverse), grad_output.contiguous()
        grad_x, grad_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad_output, x.contiguous(), weight.shape, mean, inverse, weight, weight, (True, True, True)
        )
        grad_mean = (grad_output @ weight).unsqueeze(-1).mul_(inverse).div_(x.size(-1))
        return grad_x.add_(grad_mean), grad_weight


class DynamicTanh(Norm):
    """Dynamic Tanh, Zhu et al. 2025 (arXiv 2503.10622), equation (1): no statistics at all."""

    name = "dynamic_tanh"
    title = "Dynamic Tanh"
    equation = "gamma tanh(alpha x) + beta, alpha = 0.5 at start"
    paper = "https://arxiv.org/abs/2503.10622"
    when_to_use = "to see whether statistics are needed"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * torch.tanh(self.alpha * x) + self.bias


class ScaleNorm(Norm):
    """ScaleNorm, Nguyen & Salazar 2019 (arXiv 1910.05895), section 2.2: one trainable length for all vectors."""

    name = "scale_norm"
    title = "ScaleNorm"
    equation = "g x / sqrt(sum(x^2)), g = sqrt(d) at start"
    paper = "https://arxiv.org/abs/1910.05895"
    when_to_use = "small data, as in its paper"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.sqrt(dim)))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.normalize(x, dim=-1, eps=EPSILON)

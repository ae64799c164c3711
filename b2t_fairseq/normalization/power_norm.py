"""PowerNorm: statistics over tokens instead of over the elements of a vector, with running values."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from fairseq.distributed import utils as distributed_utils
from torch import Tensor, nn

from b2t_common.errors import InputError

from .contract import EPSILON, Norm


class PowerNorm(Norm):
    """PowerNorm, Shen et al. 2020 (arXiv 2003.07845), algorithms 1 and 2: quadratic means over the tokens of a batch.

    For each channel c, ``psi_c^2`` is the mean of ``x_c^2`` over all tokens that are no padding.  After the warm-up an
    update uses the running value of the updates before it, and its backward pass uses a running value too,

        dL/dx = (gamma dL/dy - nu x_hat) / psi,    nu: running mean of gamma dL/dy x_hat,

    where the exact gradient would have the batch's own mean.  In the warm-up both passes use the batch's own means.
    Evaluation uses the running value of ``psi``.

    The running values are those of updates: of all batches of an update (``--update-freq``) and of all processes.  Only
    what got a gradient counts, so neither a batch that fairseq repeats to keep a process busy does, nor a forward pass
    that is computed a second time.  In the warm-up each of an update's batches is normalized by itself, in all
    processes.  Running values belong to a depth: layers that share parameters do not share them.

    As in the authors' code, behind whose results it stands, the part of a vector that belongs to one attention head is
    first divided by its own quadratic mean.  The warm-up's exact gradient is our choice: that code uses ``nu`` there.

    Args:
        dim: length of the vectors to normalize.
        heads: number of parts of a vector.
        power_norm_warmup: number of updates of the warm-up.

    Attributes:
        loss_scale: by what the loss is multiplied in half precision; ``nu`` is stored without it.
    """

    name = "power_norm"
    title = "PowerNorm"
    equation = "gamma x / psi + beta, psi_c^2: running mean of x_c^2 over tokens"
    paper = "https://arxiv.org/abs/2003.07845"
    when_to_use = "its paper reports 0.4 to 0.6 BLEU more than LayerNorm; encoder only, as there"
    stacks = ("encoder",)
    flags = ("power_norm_warmup",)
    alpha = 0.9

    mean_square: Tensor
    mean_gradient: Tensor
    needs_padding = True
    is_compilable = False

    def __init__(self, dim: int, heads: int = 1, power_norm_warmup: int = 4000) -> None:
        super().__init__()
        self.part, self.warmup = dim // math.gcd(dim, heads), power_norm_warmup
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean_square", torch.ones(dim))
        self.register_buffer("mean_gradient", torch.zeros(dim))
        self.num_updates, self.loss_scale = 0, 1.0
        self.sums: Tensor | None = None

    @classmethod
    def build(cls, dim, heads, **settings):
        return cls(dim, heads, **settings)

    @classmethod
    def check(cls, settings):
        if settings.power_norm_warmup < 0:
            raise InputError(f"--power-norm-warmup {settings.power_norm_warmup}: give a number of updates, 0 or more")
        layerdrop = getattr(settings, "encoder_layerdrop", 0.0)
        if layerdrop:
            raise InputError(
                f"--encoder-layerdrop {layerdrop} cannot work with --norm {cls.name}: several processes may drop "
                "different layers, and then have no common statistics; drop the flag, or choose another norm"
            )

    def set_num_updates(self, num_updates: int) -> None:
        """Take the number of updates that were made; fairseq calls this before each batch of training."""
        self.num_updates = num_updates

    def forward(self, x: Tensor) -> Tensor:
        x = F.rms_norm(x.unflatten(-1, (-1, self.part)), (self.part,), eps=EPSILON).flatten(-2)
        if not self.training:
            scale = self.weight * (self.mean_square + EPSILON).rsqrt()
            return (x * scale + self.bias).to(x.dtype)
        is_token = torch.ones(x.shape[:-1], device=x.device, dtype=_wide(x).dtype)
        if self.padding_mask is not None:
            is_token = is_token.masked_fill_(self.padding_mask.reshape(x.shape[:-1]), 0)
        return _PowerNormInTraining.apply(x, self.weight, self.bias, is_token.unsqueeze(-1), self)

    def add(self, sums: Tensor, got_gradient: Tensor) -> None:
        """Add a batch's sums to those of the update, if ``got_gradient``, a tensor with one truth value."""
        sums = torch.where(got_gradient, sums, torch.zeros_like(sums))
        self.sums = sums if self.sums is None else self.sums + sums

    def finish_update(self, sums: Tensor) -> None:
        """Move the running values towards those of an update.

        Args:
            sums: over the tokens of the update in all processes, ``(3 * dim + 1,)``: of ``x^2``, of ``x_hat^2``, of
                ``gamma dL/dy x_hat``, and their number.
        """
        square, normalized, gradient = (sums[:-1] / sums[-1]).chunk(3)
        # The first updates count alike, so that the values with which a new norm begins have no weight.
        step = max(1 - self.alpha, 1 / (self.num_updates + 1))
        mean_square = torch.lerp(self.mean_square, square, step)
        mean_gradient = self.mean_gradient * (1 - step * normalized) + step * gradient
        has_tokens = sums[-1] > 0
        self.mean_square.copy_(torch.where(has_tokens, mean_square, self.mean_square))
        self.mean_gradient.copy_(torch.where(has_tokens, mean_gradient, self.mean_gradient))

    def _apply(self, fn, recurse=True):
        """Keep running values in float32, because in half precision small steps would be lost."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            if buffer.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = before[name].to(buffer.device)
        return self


class _PowerNormInTraining(torch.autograd.Function):
    """PowerNorm of ``x``, ``(..., dim)``, in float32; ``is_token`` is 1 at tokens and 0 at padding, ``(..., 1)``."""

    @staticmethod
    def forward(ctx, x, weight, bias, is_token, norm):
        dtype, x = x.dtype, _wide(x)
        tokens = is_token.sum().view(1)
        squares = (x.square() * is_token).flatten(0, -2).sum(dim=0)
        ctx.in_warmup = norm.num_updates < norm.warmup
        psi_square = norm.mean_square
        if ctx.in_warmup:
            total = _sum_over_processes(torch.cat([squares, tokens]))
            psi_square = total[:-1] / total[-1].clamp(min=1)
        inverse = (psi_square + EPSILON).rsqrt()
        x_hat = x * inverse
        ctx.norm, ctx.dtype = norm, dtype
        ctx.save_for_backward(x_hat, inverse, weight, is_token, squares, tokens)
        return (weight * x_hat + bias).to(dtype)

    @staticmethod
    def backward(ctx, grad_output):
        norm = ctx.norm
        x_hat, inverse, weight, is_token, squares, tokens = ctx.saved_tensors
        grad_output = _wide(grad_output)
        products = grad_output * x_hat
        grad_weight, grad_bias = (x.flatten(0, -2).sum(dim=0).to(weight.dtype) for x in (products, grad_output))
        gradients = weight * (products * is_token).flatten(0, -2).sum(dim=0)
        nu = norm.mean_gradient * norm.loss_scale
        if ctx.in_warmup:
            total = _sum_over_processes(torch.cat([gradients, tokens]))
            nu = total[:-1] / total[-1].clamp(min=1)
        # Padding has no part in the statistics, so no gradient flows back to it through them.  Neither does any to a
        # batch whose loss is zero, though nu is not.
        got_gradient = grad_output.any()
        nu = torch.where(got_gradient, nu, torch.zeros_like(nu))
        grad_x = (weight * grad_output - nu * x_hat * is_token) * inverse
        sums = torch.cat([squares, squares * inverse.square(), gradients / norm.loss_scale, tokens])
        norm.add(sums, got_gradient & gradients.isfinite().all())
        return grad_x.to(ctx.dtype), grad_weight, grad_bias, None, None


def _wide(x: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is so."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _sum_over_processes(sums: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return distributed_utils.all_reduce(sums, distributed_utils.get_data_parallel_group())
    return sums


def with_running_values(train_step):
    """Return ``Trainer.train_step`` that moves PowerNorm's running values once, after an update that was made."""

    @functools.wraps(train_step)
    def wrapper(self, samples, *args, **kwargs):
        norms = [module for module in self.get_model().modules() if isinstance(module, PowerNorm)]
        scaler = getattr(self.optimizer, "scaler", None) if norms else None
        for norm in norms:
            # What is left is of an update that was not made, because its gradients overflowed.
            norm.sums = None
            if scaler is not None:
                norm.loss_scale = getattr(scaler, "loss_scale", None) or scaler.get_scale()
        updates = self.get_num_updates()
        output = train_step(self, samples, *args, **kwargs)
        if self.get_num_updates() > updates:
            finish_update(norms)
        return output

    return wrapper


def finish_update(norms: Iterable[PowerNorm]) -> None:
    """Move the running values of norms towards those of the update, with one sum over all processes."""
    added = [(norm, norm.sums) for norm in norms if norm.sums is not None]
    if added:
        total = _sum_over_processes(torch.cat([sums for _, sums in added]))
        for (norm, _), sums in zip(added, total.split([len(sums) for _, sums in added]), strict=True):
            norm.finish_update(sums)
            norm.sums = None

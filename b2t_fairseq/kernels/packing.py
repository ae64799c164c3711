"""Products of the tokens of a padded batch, without the padding.

A matrix product costs as much for padding as for tokens, and its results at padding are never used.  On a CPU, where
almost all the time of an update goes to products, copying the tokens out of the batch and the results back costs far
less than the products of the padding.  Dropout is applied to the padded batch, so it draws the same random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST_PADDING = 1 / 32
"""Share of padding in a batch below which the copies would cost about as much as the products of the padding."""


@dataclass(frozen=True)
class Packing:
    """Which rows of a padded batch are tokens.

    Attributes:
        tokens: numbers of the rows that are tokens, in ascending order.
        num_rows: rows of the batch, padding included.
    """

    tokens: Tensor
    num_rows: int

    def apply(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Return ``function`` of the rows that are tokens, and zeros at padding.

        Args:
            function: maps each row on its own, ``(n, in_dim)`` to ``(n, out_dim)``.
            rows: ``(num_rows, in_dim)``.
        """
        return _Unpack.apply(function(self.pack(rows)), self.tokens, self.num_rows)

    def pack(self, rows: Tensor) -> Tensor:
        """Return the rows that are tokens."""
        return _Pack.apply(rows, self.tokens)


def packing(padding: Tensor) -> Packing | None:
    """Return how to leave padding out, ``None`` if that saves nothing.

    Args:
        padding: true at padding, ``(rows,)``, on a CPU; a GPU would have to wait for the number of tokens.
    """
    tokens = padding.logical_not().nonzero().squeeze(1)
    is_worth_it = len(padding) - len(tokens) > _LEAST_PADDING * len(padding)
    return Packing(tokens, len(padding)) if is_worth_it else None


def apply_packed(function: Callable[[Tensor], Tensor], x: Tensor, packing: Packing | None) -> Tensor:
    """Return ``function(x)``, without the padding of ``x`` if a packing is given.

    Args:
        function: maps each token on its own, ``(..., in_dim)`` to ``(..., out_dim)``.
        x: ``(seq_len, batch, in_dim)``.
        packing: of ``seq_len * batch`` rows.
    """
    return function(x) if packing is None else packing.apply(function, x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _spread(rows: Tensor, tokens: Tensor, num_rows: int) -> Tensor:
    return rows.new_zeros(num_rows, rows.size(1)).index_copy_(0, tokens, rows)


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, tokens):
        ctx.save_for_backward(tokens)
        ctx.num_rows = len(rows)
        return rows.index_select(0, tokens)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (tokens,) = ctx.saved_tensors
        return _spread(gradient, tokens, ctx.num_rows), None


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, tokens, num_rows):
        ctx.save_for_backward(tokens)
        return _spread(rows, tokens, num_rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (tokens,) = ctx.saved_tensors
        return gradient.index_select(0, tokens), None, None

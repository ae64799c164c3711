"""Norms, positions, attention, and the layers, whose residual scheme joins each sub-layer to the residual stream.

All tensors have the shape ``(batch, seq_len, embed_dim)``.  In training dropout is as in b2t_fairseq; PowerNorm keeps
its running values, and SHAPE does not shift positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .residual_b2t import SCHEME

EPSILON = 1e-5

Mask = Tensor
"""True where a query may see a key, ``(batch or 1, 1, queries or 1, keys)``."""


class RMSNorm(nn.Module):
    """``gamma x / sqrt(mean(x^2))``, with ``beta`` added if ``rms_norm_bias``."""

    def __init__(self, dim: int, heads: int, rms_norm_bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if rms_norm_bias else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.rms_norm(x, self.weight.shape, self.weight, EPSILON)
        return x if self.bias is None else x + self.bias


class PowerNorm(nn.Module):
    """``gamma x / psi + beta``, after each head's part of ``x`` was divided by its quadratic mean."""

    mean_square: Tensor

    def __init__(self, dim: int, heads: int, **settings: Any) -> None:
        super().__init__()
        self.part = dim // math.gcd(dim, heads)
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean_square", torch.ones(dim))  # psi^2

    def forward(self, x: Tensor) -> Tensor:
        x = F.rms_norm(x.unflatten(-1, (-1, self.part)), (self.part,), eps=EPSILON).flatten(-2)
        return (x * (self.weight * (self.mean_square + EPSILON).rsqrt()) + self.bias).to(x.dtype)


class DynamicTanh(nn.Module):
    """``gamma tanh(alpha x) + beta``."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * torch.tanh(self.alpha * x) + self.bias


class ScaleNorm(nn.Module):
    """``g x / sqrt(sum(x^2))``."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.normalize(x, dim=-1, eps=EPSILON)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "layer_norm": lambda dim, heads: nn.LayerNorm(dim, eps=EPSILON),
    "rms_norm": RMSNorm,
    "power_norm": PowerNorm,
    "dynamic_tanh": DynamicTanh,
    "scale_norm": ScaleNorm,
}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_accurate": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


def norm_builder(stack: SimpleNamespace) -> Callable[[int], nn.Module]:
    """Return a function of a width that builds a norm of a stack."""
    return lambda dim: NORMS[stack.norm](dim, stack.heads, **stack.norm_settings)


class SinusoidalPositions(nn.Module):
    """Sines and cosines, computed anew in each pass, so that sentences may have any length."""

    def __init__(self, dim: int, padding: int) -> None:
        super().__init__()
        self.dim, self.padding = dim, padding

    def forward(self, positions: Tensor) -> Tensor:
        """Return the vectors of positions, ``(batch, seq_len)``; that of ``padding`` is zero."""
        half = self.dim // 2
        exponents = torch.arange(half, dtype=torch.float32, device=positions.device)
        angles = positions.unsqueeze(-1).float() * torch.exp(exponents * -(math.log(10000) / (half - 1)))
        vectors = F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, self.dim % 2))
        return vectors.masked_fill(positions.eq(self.padding).unsqueeze(-1), 0)


def build_positions(stack: SimpleNamespace, padding: int) -> nn.Module | None:
    """Return the module from positions, which count from ``padding + 1``, to vectors; ``None``: there are none."""
    if stack.positions is None:
        return None
    if stack.positions == "learned":
        return nn.Embedding(stack.max_positions + padding + 1, stack.embed_dim, padding)
    return SinusoidalPositions(stack.embed_dim, padding)


class NormedLinear(nn.Linear):
    """A linear map of a normalized input."""

    def __init__(self, in_features: int, out_features: int, norm: nn.Module) -> None:
        super().__init__(in_features, out_features)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))


class Attention(nn.Module):
    """Multi-head attention.

    Args:
        dim: width of queries and output.
        source_dim: width of what keys and values are computed from.
        heads: number of heads.
        dropout: probability of dropping an attention weight.
    """

    def __init__(self, dim: int, source_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.k_proj, self.v_proj = nn.Linear(source_dim, dim), nn.Linear(source_dim, dim)

    def keys_and_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values of a source, each ``(batch, heads, seq_len, head_dim)``."""
        return self._split(self.k_proj(source)), self._split(self.v_proj(source))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Mask | None) -> Tensor:
        """Return the attention of ``x`` to keys and values, ``(batch, seq_len, dim)``."""
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(self._split(self.q_proj(x)), keys, values, mask, dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Self-attention, cross-attention in a decoder, and feed-forward, joined by the residual scheme.

    Args:
        config: the model's configuration.
        stack: that of the layer's stack.
        name: ``"encoder"`` or ``"decoder"``.
        number: the number of the layer in its stack, under which a cache keeps its keys and values.
        source_dim: width of the encoder's output; ``None``: no cross-attention.
    """

    def __init__(self, config: Any, stack: SimpleNamespace, name: str, number: int, source_dim: int | None) -> None:
        super().__init__()
        self.number, self.dropout, self.activation_dropout = number, config.dropout, config.activation_dropout
        self.activation = ACTIVATIONS[config.activation]
        dim, build_norm = stack.embed_dim, norm_builder(stack)
        position = SimpleNamespace(
            stack=name,
            index=stack.depths[number],
            num_layers=stack.num_layers,
            embed_dim=dim,
            num_sublayers=stack.num_sublayers,
            other_layers=stack.other_layers,
            build_norm=build_norm,
            build_norms=lambda: nn.ModuleList(build_norm(dim) for _ in range(stack.num_sublayers)),
            settings=config.scheme_settings,
        )
        self.residual = SCHEME(position)
        for module in self.residual.modules():
            # transformers builds a model without values, so all of them must come from the file
            module._non_persistent_buffers_set.clear()

        def norm() -> nn.Module:
            return build_norm(dim) if SCHEME.has_norms else nn.Identity()

        self.self_attn = Attention(dim, dim, stack.heads, config.attention_dropout)
        self.self_attn_layer_norm = norm()
        self.encoder_attn: Any = None
        if source_dim is not None:
            self.encoder_attn = Attention(dim, source_dim, stack.heads, config.attention_dropout)
            self.encoder_attn_layer_norm = norm()
        self.fc1, self.fc2 = nn.Linear(dim, stack.ffn_dim), nn.Linear(stack.ffn_dim, dim)
        self.final_layer_norm = norm()
        if SCHEME.norm_inside:
            self.self_attn.out_proj = NormedLinear(dim, dim, build_norm(dim))
            self.fc2 = NormedLinear(stack.ffn_dim, dim, build_norm(stack.ffn_dim))

    def forward(
        self,
        x: Any,
        mask: Mask | None,
        source: Tensor | None = None,
        source_mask: Mask | None = None,
        cache: Any = None,
    ) -> Any:
        """Return the layer's output, ``(batch, seq_len, embed_dim)``, or a tuple of such tensors, as ``x`` is one.

        Args:
            x: the layer's input.
            mask: for self-attention.
            source: the encoder's output, ``(batch, source_len, source_dim)``.
            source_mask: for cross-attention.
            cache: keys and values of earlier steps, an ``EncoderDecoderCache``.
        """
        layer_input = x
        for index, (sublayer, norm) in enumerate(self._sublayers(mask, source, source_mask, cache)):
            x = self.residual.connect(x, self._with_dropout(sublayer), norm, layer_input, index)
        return x

    def _sublayers(self, mask: Any, source: Any, source_mask: Any, cache: Any) -> Iterator[tuple[Callable, nn.Module]]:
        def self_attention(x: Tensor) -> Tensor:
            keys, values = self.self_attn.keys_and_values(x)
            if cache is not None:
                keys, values = cache.self_attention_cache.update(keys, values, self.number)
            return self.self_attn(x, keys, values, mask)

        def cross_attention(x: Tensor) -> Tensor:
            return self.encoder_attn(x, *self._source_keys_and_values(source, cache), source_mask)

        yield self_attention, self.self_attn_layer_norm
        if self.encoder_attn is not None:
            yield cross_attention, self.encoder_attn_layer_norm
        yield self._feed_forward, self.final_layer_norm

    def _source_keys_and_values(self, source: Tensor, cache: Any) -> tuple[Tensor, Tensor]:
        """Return those of the source, which are computed in the first step only."""
        if cache is None:
            return self.encoder_attn.keys_and_values(source)
        if not cache.is_updated.get(self.number):
            cache.is_updated[self.number] = True
            return cache.cross_attention_cache.update(*self.encoder_attn.keys_and_values(source), self.number)
        cached = cache.cross_attention_cache.layers[self.number]
        return cached.keys, cached.values

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.dropout(self.activation(self.fc1(x)), self.activation_dropout, self.training))

    def _with_dropout(self, sublayer: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: F.dropout(sublayer(x), self.dropout, self.training)

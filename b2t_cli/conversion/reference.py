"""The releases' forward pass, written from their tensors and switches: what a conversion is checked against.

It shares no code with the models of this plugin, and reads the release's own names and layouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.utils import get_activation_fn
from torch import Tensor

from .flags import ReleaseFlags
from .weights import RATIOS

PADDING = 1


def log_probabilities(flags: ReleaseFlags, weights: Mapping[str, Tensor], source: Tensor, previous: Tensor) -> Tensor:
    """Return the log-probabilities of the next token, ``(batch, tgt_len, vocabulary)``.

    Args:
        flags: the release's switches.
        weights: its parameters, under its names.
        source: ``(batch, src_len)``.
        previous: target tokens so far, ``(batch, tgt_len)``.
    """
    reference = _Release(flags, weights)
    padding = source == PADDING
    encoded = reference.stack("encoder", source, None, padding)
    features = reference.stack("decoder", previous, encoded, padding)
    output = weights.get("decoder.embed_out", weights["decoder.embed_tokens.weight"])
    return F.log_softmax(F.linear(features, output.float()).transpose(0, 1), dim=-1)


class _Release:
    def __init__(self, flags: ReleaseFlags, weights: Mapping[str, Tensor]) -> None:
        self.flags = flags
        self.weights = weights
        self.activation = get_activation_fn(flags.args.activation_fn)

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[name].float()

    def stack(self, stack: str, tokens: Tensor, encoded: Tensor | None, source_padding: Tensor) -> Tensor:
        """Return the output of all layers, ``(seq_len, batch, embed_dim)``."""
        x = self.embed(stack, tokens).transpose(0, 1)
        for depth in range(getattr(self.flags.args, f"{stack}_layers")):
            x = self.layer(f"{stack}.layers.{depth}", stack, x, tokens == PADDING, encoded, source_padding)
        has_norm = self.flags.pre_norm and f"{stack}.layer_norm.weight" in self.weights
        return self.norm(f"{stack}.layer_norm", x) if has_norm else x

    def embed(self, stack: str, tokens: Tensor) -> Tensor:
        """Return the first layer's input, ``(batch, seq_len, embed_dim)``."""
        table = self[f"{stack}.embed_tokens.weight"]
        scale = 1.0 if getattr(self.flags.args, "no_scale_embedding", False) else math.sqrt(table.size(1))
        real = (tokens != PADDING).long()
        positions = real.cumsum(dim=1) * real + PADDING
        learned = [name for name in self.weights if name.startswith(f"{stack}.embed_positions")]
        vectors = self[learned[0]] if learned else _sinusoids(int(positions.max()) + 1, table.size(1))
        x = scale * table[tokens] + vectors[positions]
        norm = f"{stack}.layernorm_embedding"
        return self.norm(norm, x) if f"{norm}.weight" in self.weights else x

    def layer(
        self,
        prefix: str,
        stack: str,
        x: Tensor,
        padding: Tensor,
        encoded: Tensor | None,
        source_padding: Tensor,
    ) -> Tensor:
        """Return one layer's output, ``(seq_len, batch, embed_dim)``."""
        future = None
        if stack == "decoder":
            future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        sublayers: list[tuple[Callable[[Tensor], Tensor], str]] = [
            (lambda x: self.attention(f"{prefix}.self_attn", stack, x, x, padding, future), "self_attn_layer_norm"),
            (lambda x: self.feed_forward(prefix, x), "final_layer_norm"),
        ]
        if encoded is not None:
            cross = lambda x: self.attention(f"{prefix}.encoder_attn", stack, x, encoded, source_padding, None)  # noqa: E731
            sublayers.insert(1, (cross, "encoder_attn_layer_norm"))
        ratios: Iterable[Tensor | float]
        ratios = [self[f"{prefix}.{name}"] for name in RATIOS[stack]] if self.flags.ratios else repeat(1.0)
        layer_input = x
        for (f, norm), ratio in zip(sublayers, ratios, strict=False):
            last = norm == "final_layer_norm"
            if self.flags.pre_norm:
                x = x + f(self.norm(f"{prefix}.{norm}", x))
            elif not self.flags.norms:
                x = self.without_norm(stack, layer_input, x + f(x)) if last else x + f(x)
            else:
                skip = layer_input if last and self.flags.b2t else 0.0
                x = self.norm(f"{prefix}.{norm}", ratio * x + f(x) + skip)
        return x

    def without_norm(self, stack: str, layer_input: Tensor, x: Tensor) -> Tensor:
        layers = getattr(self.flags.args, f"{stack}_layers")
        return min(layers**-0.15, layers / 12) * layer_input + x.size(-1) ** -0.2 * x

    def norm(self, prefix: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self[f"{prefix}.weight"], self[f"{prefix}.bias"])

    def feed_forward(self, prefix: str, x: Tensor) -> Tensor:
        hidden = self.activation(F.linear(x, self[f"{prefix}.fc1.weight"], self[f"{prefix}.fc1.bias"]))
        return F.linear(hidden, self[f"{prefix}.fc2.weight"], self[f"{prefix}.fc2.bias"])

    def attention(
        self, prefix: str, stack: str, x: Tensor, keys: Tensor, padding: Tensor, future: Tensor | None
    ) -> Tensor:
        """Return multi-head attention by torch's own function, from stacked or from separate projections."""
        stacked = f"{prefix}.in_proj_weight" in self.weights
        separate: dict[str, Any]
        separate = {} if stacked else {f"{part}_proj_weight": self[f"{prefix}.{part}_proj.weight"] for part in "qkv"}
        bias = (
            self[f"{prefix}.in_proj_bias"]
            if stacked
            else torch.cat([self[f"{prefix}.{part}_proj.bias"] for part in "qkv"])
        )
        attended, _ = F.multi_head_attention_forward(
            x,
            keys,
            keys,
            x.size(-1),
            getattr(self.flags.args, f"{stack}_attention_heads"),
            self[f"{prefix}.in_proj_weight"] if stacked else None,
            bias,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self[f"{prefix}.out_proj.weight"],
            out_proj_bias=self[f"{prefix}.out_proj.bias"],
            training=False,
            key_padding_mask=padding,
            need_weights=False,
            attn_mask=future,
            use_separate_proj_weight=not stacked,
            **separate,
        )
        return attended


def _sinusoids(rows: int, width: int) -> Tensor:
    """Return the releases' position vectors, ``(rows, width)``: all sines, then all cosines; zero for padding."""
    frequencies = torch.exp(torch.arange(width // 2) * -(math.log(10000) / (width // 2 - 1)))
    angles = torch.arange(rows).unsqueeze(1) * frequencies
    vectors = F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))
    vectors[PADDING] = 0
    return vectors

"""The forward pass of the releases, written from their tensors and settings, with which conversions are checked.

It shares no code with the models of this plugin, and reads the names and layouts of the releases.
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
        flags: what the settings of the release say.
        weights: the parameters, under the release's names.
        source: ``(batch, src_len)``.
        previous: the target tokens so far, ``(batch, tgt_len)``.
    """
    reference = _Release(flags, weights)
    padding = source == PADDING
    encoded = reference.stack("encoder", source, None, padding)
    features = reference.stack("decoder", previous, encoded, padding)
    output = weights.get("decoder.embed_out", weights["decoder.embed_tokens.weight"])
    return F.log_softmax(F.linear(features, output.float()).transpose(0, 1), dim=-1)


class _Release:
    """The model of a release; all tensors of its functions are float32."""

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
        is_token = (tokens != PADDING).long()
        positions = is_token.cumsum(dim=1) * is_token + PADDING
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
        """Return the output of a layer, ``(seq_len, batch, embed_dim)``.

        Args:
            prefix: the beginning of the names of its parameters.
            stack: ``"encoder"`` or ``"decoder"``.
            x: the input, ``(seq_len, batch, embed_dim)``.
            padding: true at padding of the input, ``(batch, seq_len)``.
            encoded: the output of the encoder, ``(src_len, batch, embed_dim)``; ``None`` in the encoder.
            source_padding: true at padding of the source, ``(batch, src_len)``.
        """
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
            is_last = norm == "final_layer_norm"
            if self.flags.pre_norm:
                x = x + f(self.norm(f"{prefix}.{norm}", x))
            elif not self.flags.norms:
                x = self.without_norm(stack, layer_input, x + f(x)) if is_last else x + f(x)
            else:
                skip = layer_input if is_last and self.flags.b2t else 0.0
                x = self.norm(f"{prefix}.{norm}", ratio * x + f(x) + skip)
        return x

    def without_norm(self, stack: str, layer_input: Tensor, x: Tensor) -> Tensor:
        """Return the output of a layer that has the B2T connection and no norms."""
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
        """Return multi-head attention, ``(seq_len, batch, embed_dim)``, computed by torch's own function.

        The projections of query, key and value are stacked in one matrix, or separate matrices.
        """
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
    """Return the position vectors of the releases, ``(rows, width)``: sines, then cosines; zeros for padding."""
    frequencies = torch.exp(torch.arange(width // 2) * -(math.log(10000) / (width // 2 - 1)))
    angles = torch.arange(rows).unsqueeze(1) * frequencies
    vectors = F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))
    vectors[PADDING] = 0
    return vectors

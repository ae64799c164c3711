"""A decoder that goes step by step: keys and values are written once and never moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.attention import FusedMultiheadAttention
from ..kernels.linear import linear_layer
from ..layers import DecoderLayer
from ..stacks import Decoder


class StepDecoder:
    """All hypotheses of a batch of sentences, one token further with each call.

    Keys and values of the source are computed once for each sentence, not for each hypothesis.  Those of the target
    stay where they were written; when hypotheses change places, only the mask that says whose they are changes.

    Args:
        decoder: a decoder of this plugin.
        encoder_out: what its encoder returned for ``sentences`` sentences.
        beam: hypotheses for each of them.
        expected_steps: how many steps there will probably be; more are possible.
    """

    def __init__(self, decoder: Decoder, encoder_out: dict[str, list[Tensor]], beam: int, expected_steps: int) -> None:
        source, masks = encoder_out["encoder_out"][0], encoder_out["encoder_padding_mask"]
        self.decoder, self.beam, self.steps = decoder, beam, 0
        self.source_mask = None
        # Speech encoders return no mask if nothing is padded.
        if masks and decoder.needs_mask(masks[0]):
            self.source_mask = _as_added(~masks[0][:, None, None, :], source.dtype)
        sentences, slots = source.size(1), beam * expected_steps
        packed = _Packed()
        self.layers = [_LayerCache(layer, source, sentences, slots, packed) for layer in decoder.layer_list()]
        # Whether a hypothesis sees what was written into a slot: (sentences, beam, slots).
        self.visible = torch.zeros(sentences, beam, slots, dtype=torch.bool, device=source.device)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the features after the last token, ``(sentences * beam, output_dim)``.

        Args:
            tokens: all tokens so far of each hypothesis, ``(sentences, beam, steps)``.
        """
        decoder, written = self.decoder, self.steps * self.beam
        if written + self.beam > self.visible.size(2):
            self._grow()
        # Not an assignment by index, because assigning a Python number by index synchronizes with the GPU.
        self.visible[:, :, written : written + self.beam].diagonal(dim1=1, dim2=2).fill_(True)
        mask = None

        def call(depth: int, layer: DecoderLayer, x: Tensor) -> Tensor:
            nonlocal mask
            if mask is None:
                mask = _as_added(self.visible[:, None, :, : written + self.beam], x.dtype)
            return self.layers[depth](layer, x, written, self.beam, mask, self.source_mask)

        x = decoder.forward_embedding(tokens.flatten(0, 1), {}).transpose(0, 1)
        x = decoder.run_layers(x, call)
        self.steps += 1
        return (x if decoder.project_out_dim is None else decoder.project_out_dim(x)).squeeze(0)

    def follow(self, parents: Tensor) -> None:
        """Let each hypothesis go on from another one of its sentence.

        Args:
            parents: the hypotheses of the last step that these continue, ``(sentences, beam)``.
        """
        used = self.visible[:, :, : self.steps * self.beam]
        used.copy_(used.gather(1, parents.unsqueeze(2).expand_as(used)))

    def keep(self, sentences: Tensor) -> None:
        """Go on with some of the sentences only, given their places, ``(kept,)``."""
        self.visible = self.visible[sentences]
        self.source_mask = None if self.source_mask is None else self.source_mask[sentences]
        for layer in self.layers:
            layer.keep(sentences, self.steps * self.beam)

    def _grow(self) -> None:
        more = max(self.beam, self.visible.size(2) // 2 // self.beam * self.beam)
        self.visible = F.pad(self.visible, (0, more))
        for layer in self.layers:
            layer.grow(more)


class _Packed:
    """Projections in one, made once for layers that share parameters."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}

    def __call__(self, attention: FusedMultiheadAttention, *names: str) -> Callable[[Tensor], Tensor]:
        """Return what :meth:`FusedMultiheadAttention.packed` returns."""
        projections = [getattr(attention, f"{name}_proj") for name in names]
        # Layers that share 8-bit weights have the same modules, which have no parameters.
        parameters = tuple(id(x) for projection in projections for x in list(projection.parameters()) or [projection])
        if parameters not in self.made:
            self.made[parameters] = attention.packed(*names)
        return self.made[parameters]


class _LayerCache:
    """Keys and values of one layer, ``(sentences, heads, slots, head_dim)``, and its projections in one."""

    def __init__(self, layer: DecoderLayer, source: Tensor, sentences: int, slots: int, packed: _Packed) -> None:
        attention = layer.self_attn
        self.projection = packed(attention, "q", "k", "v")
        shape = (sentences, attention.num_heads, slots, attention.head_dim)
        self.keys, self.values = source.new_empty(shape), source.new_empty(shape)
        self.source_keys: Any = None
        self.source_values: Any = None
        if layer.encoder_attn is not None:
            keys, values = packed(layer.encoder_attn, "k", "v")(source).chunk(2, dim=-1)
            self.source_keys, self.source_values = (
                layer.encoder_attn.split_heads(x).contiguous() for x in (keys, values)
            )

    def __call__(
        self, layer: DecoderLayer, x: Tensor, written: int, beam: int, mask: Tensor, source_mask: Tensor | None
    ) -> Tensor:
        """Return the layer's output, ``(1, sentences * beam, embed_dim)``, and write this step's keys and values.

        Args:
            layer: the layer.
            x: its input, ``(1, sentences * beam, embed_dim)``.
            written: slots that are in use.
            beam: hypotheses for each sentence.
            mask: whose keys a hypothesis sees, to be added to scores, ``(sentences, 1, beam, written + beam)``.
            source_mask: where the source is padded, likewise, ``(sentences, 1, 1, src_len)``.
        """

        def self_attention(x: Tensor) -> Tensor:
            attention, end = layer.self_attn, written + beam
            queries, keys, values = (_hypotheses(part, beam, attention) for part in self.projection(x).chunk(3, dim=-1))
            self.keys[:, :, written:end], self.values[:, :, written:end] = keys, values
            return _attend(attention, queries, self.keys[:, :, :end], self.values[:, :, :end], mask)

        def cross_attention(x: Tensor) -> Tensor:
            attention = layer.encoder_attn
            queries = _hypotheses(linear_layer(attention.q_proj, x), beam, attention)
            return _attend(attention, queries, self.source_keys, self.source_values, source_mask)

        return layer.connect_sublayers(x, *layer.sublayers(self_attention, cross_attention))

    def keep(self, sentences: Tensor, written: int) -> None:
        slots = self.keys.size(2)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(len(sentences), old.size(1), slots, old.size(3))
            new[:, :, :written] = old[:, :, :written].index_select(0, sentences)
            setattr(self, name, new)
        if self.source_keys is not None:
            self.source_keys, self.source_values = self.source_keys[sentences], self.source_values[sentences]

    def grow(self, more: int) -> None:
        self.keys, self.values = (F.pad(x, (0, 0, 0, more)) for x in (self.keys, self.values))


def _hypotheses(x: Tensor, beam: int, attention: FusedMultiheadAttention) -> Tensor:
    """Return ``(1, sentences * beam, embed_dim)`` as ``(sentences, heads, beam, head_dim)``."""
    return x.view(-1, beam, attention.num_heads, attention.head_dim).transpose(1, 2)


def _attend(
    attention: FusedMultiheadAttention, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    """Return what the hypotheses attend to, projected, ``(1, sentences * beam, embed_dim)``.

    Args:
        attention: the attention, for its output projection.
        queries: ``(sentences, heads, beam, head_dim)``.
        keys: ``(sentences, heads, slots, head_dim)``.
        values: as ``keys``.
        mask: added to the scores, ``(sentences, 1, beam or 1, slots)``.
    """
    if queries.device.type == "cpu" and queries.dtype == torch.float32:
        # PyTorch's fused attention on a CPU computes queries in blocks of 32, and there are fewer.
        scores = (queries * attention.scaling) @ keys.transpose(2, 3)
        weights = (scores if mask is None else scores.add_(mask)).softmax(dim=-1)
        attended = weights @ values
    else:
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return linear_layer(attention.out_proj, attended.transpose(1, 2).reshape(1, -1, attention.embed_dim))


def _as_added(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask to add to scores: 0 where it is true, minus infinity elsewhere."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, float("-inf"))

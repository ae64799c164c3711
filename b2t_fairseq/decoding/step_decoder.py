"""A decoder that goes step by step: keys and values stay where they were written as long as a hypothesis sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.attention import FusedMultiheadAttention, padding_scores
from ..kernels.linear import as_function
from ..layers import DecoderLayer
from ..stacks import Decoder

# A CPU looks so often, in steps, for slots that no hypothesis sees any more, and moves the others together if it finds
# at least this share.  To move them costs about as much as to read all slots three times.
_STEPS_BETWEEN_MOVES = 8
_SHARE_TO_MOVE = 0.25


class StepDecoder:
    """All hypotheses of a batch of sentences, one token further with each call.

    Keys and values of the source are computed once for each sentence, not for each hypothesis.  Those of the target
    are written into slots, ``beam`` of them with each step.  When hypotheses change places, only the mask that says
    whose they are changes.  Slots of hypotheses that were given up are seen by none any more; now and then the others
    are moved together.

    Args:
        decoder: a decoder of this plugin.
        encoder_out: what its encoder returned for ``sentences`` sentences.
        beam: hypotheses for each of them.
        expected_steps: how many steps there will probably be; more are possible.
    """

    def __init__(self, decoder: Decoder, encoder_out: dict[str, list[Tensor]], beam: int, expected_steps: int) -> None:
        source, masks = encoder_out["encoder_out"][0], encoder_out["encoder_padding_mask"]
        self.decoder, self.beam, self.steps, self.used = decoder, beam, 0, 0
        self.source_mask = None
        # Speech encoders return no mask if nothing is padded.
        if masks and decoder.needs_mask(masks[0]):
            self.source_mask = padding_scores(masks[0], source.dtype).squeeze(1)
        sentences, slots = source.size(1), beam * expected_steps
        packed = _Packed()
        self.layers = [_LayerCache(layer, source, slots, packed) for layer in decoder.layer_list()]
        # 0 where a hypothesis sees what was written into a slot, else minus infinity: (sentences, beam, slots).
        self.mask = source.new_full((sentences, beam, slots), float("-inf"))
        self.positions = decoder.step_positions(expected_steps)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the features after the next token of each hypothesis, ``(sentences * beam, output_dim)``.

        Args:
            tokens: those tokens, ``(sentences, beam)``.
        """
        decoder = self.decoder
        if self.steps and self.steps % _STEPS_BETWEEN_MOVES == 0 and not self.mask.is_cuda:
            self._move_together()
        end = self.used + self.beam
        if end > self.mask.size(2):
            self._grow()
        # Not an assignment by index, because assigning a Python number by index synchronizes with the GPU.
        self.mask[:, :, self.used : end].diagonal(dim1=1, dim2=2).zero_()
        attend = _Attention(self.beam, self.used, self.mask[:, :, :end], self.source_mask)

        def call(depth: int, layer: DecoderLayer, x: Tensor) -> Tensor:
            return self.layers[depth](layer, x, attend)

        if self.positions is not None and self.steps == self.positions.size(1):
            self.positions = decoder.step_positions(self.steps + self.steps // 2 + 1)
        positions = None if self.positions is None else self.positions[:, self.steps : self.steps + 1]
        x = decoder.embed(tokens.reshape(-1, 1), positions).transpose(0, 1)
        x = decoder.run_layers(x, call)
        self.steps, self.used = self.steps + 1, end
        return (x if decoder.project_out_dim is None else decoder.project_out_dim(x)).squeeze(0)

    def follow(self, parents: Tensor) -> None:
        """Let each hypothesis go on from another one of its sentence.

        Args:
            parents: the hypotheses of the last step that these continue, ``(sentences, beam)``.
        """
        used = self.mask[:, :, : self.used]
        used.copy_(used.gather(1, parents.unsqueeze(2).expand_as(used)))

    def keep(self, sentences: Tensor) -> None:
        """Go on with some of the sentences only, given their places, ``(kept,)``."""
        self._move(sentences, self._seen(sentences))
        self.source_mask = None if self.source_mask is None else self.source_mask[sentences]
        for layer in self.layers:
            layer.keep(sentences)

    def _move_together(self) -> None:
        sentences = torch.arange(len(self.mask))
        seen = self._seen(sentences)
        if seen.size(1) <= (1 - _SHARE_TO_MOVE) * self.used:
            self._move(sentences, seen)

    def _seen(self, sentences: Tensor) -> Tensor:
        """Return the slots that a hypothesis of ``sentences``, ``(kept,)``, sees, in order, ``(kept, most)``.

        There are as many as in the sentence with the most of them; in the others the last ones are not seen.  On a GPU
        they are all that are in use, because the host would wait for their number.
        """
        if self.mask.is_cuda:
            return torch.arange(self.used, device=self.mask.device).expand(len(sentences), -1)
        seen = self.mask[sentences, :, : self.used].eq(0).any(dim=1)
        most = int(seen.sum(dim=1).max())
        return seen.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :most]

    def _move(self, sentences: Tensor, slots: Tensor) -> None:
        """Keep only some slots of some sentences, and begin with them.

        Args:
            sentences: ``(kept,)``.
            slots: of each of these, ``(kept, slots)``.
        """
        before, self.used = self.mask[sentences], slots.size(1)
        self.mask = torch.full_like(before, float("-inf"))
        self.mask[:, :, : self.used] = before.gather(2, slots.unsqueeze(1).expand(-1, self.beam, -1))
        _, count, heads, size, _ = self.layers[0].written.shape
        first = sentences[:, None, None] * heads + torch.arange(heads, device=slots.device)[:, None]
        keys = first * size + slots.unsqueeze(1)
        rows = torch.stack([keys, keys + count * heads * size])
        for layer in self.layers:
            layer.move(rows)

    def _grow(self) -> None:
        more = max(self.beam, self.mask.size(2) // 2 // self.beam * self.beam)
        self.mask = F.pad(self.mask, (0, more), value=float("-inf"))
        for layer in self.layers:
            layer.grow(more)


class _Packed:
    """Projections in one, made once for layers that share parameters."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}

    def __call__(self, attention: FusedMultiheadAttention, *names: str) -> Callable[[Tensor], Tensor]:
        """Return what :meth:`FusedMultiheadAttention.packed` returns."""
        projections = [getattr(attention, f"{name}_proj") for name in names]
        # Layers that share weights in fewer bits have the same modules, which have no parameters.
        parameters = tuple(id(x) for projection in projections for x in list(projection.parameters()) or [projection])
        if parameters not in self.made:
            self.made[parameters] = attention.packed(*names)
        return self.made[parameters]


class _Attention:
    """What the attentions of one step have in common.

    Args:
        beam: hypotheses for each sentence.
        written: slots that are in use.
        mask: whose keys a hypothesis sees, to be added to scores, ``(sentences, beam, written + beam)``.
        source_mask: where the source is padded, likewise, ``(sentences, 1, src_len)``.
    """

    def __init__(self, beam: int, written: int, mask: Tensor, source_mask: Tensor | None) -> None:
        self.beam, self.written, self.end = beam, written, written + beam
        self.masks = {True: mask, False: source_mask}
        self.for_heads: dict[bool, Tensor] = {}

    def __call__(self, attention: FusedMultiheadAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return what the hypotheses attend to, before the output projection, ``(1, sentences * beam, embed_dim)``.

        Args:
            attention: the attention.
            queries: ``(sentences, heads, beam, head_dim)``.
            keys: ``(sentences * heads, head_dim, slots)``.
            values: ``(sentences * heads, slots, head_dim)``.
        """
        shape = queries.shape
        if _is_for_products(queries):
            mask = self._for_heads(attention.self_attention, queries)
            queries = queries.reshape(-1, *shape[2:])
            scores = torch.baddbmm(mask, queries, keys, alpha=attention.scaling)
            attended = torch.bmm(scores.softmax(dim=-1), values).view(shape)
        else:
            of_kind = self.masks[attention.self_attention]
            keys, values = (x.view(*shape[:2], *x.shape[1:]) for x in (keys.transpose(1, 2), values))
            added = None if of_kind is None else of_kind.unsqueeze(1)
            attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=added)
        return attended.transpose(1, 2).reshape(1, -1, attention.embed_dim)

    def _for_heads(self, is_self: bool, queries: Tensor) -> Tensor:
        """Return a mask that can be added to ``(sentences * heads, beam, slots)``, made once for all layers."""
        if is_self not in self.for_heads:
            mask = self.masks[is_self]
            if mask is None:
                self.for_heads[is_self] = queries.new_zeros(1, 1, 1)
            else:
                self.for_heads[is_self] = mask.unsqueeze(1).expand(-1, queries.size(1), -1, -1).flatten(0, 1)
        return self.for_heads[is_self]


def _is_for_products(x: Tensor) -> bool:
    """Whether an attention is computed by two products: PyTorch's fused one is slower on a CPU for so few queries."""
    return x.is_cpu and x.dtype == torch.float32


def _transposed(keys: Tensor) -> Tensor:
    """Return keys as ``(sentences * heads, head_dim, slots)``, in memory too where products read them faster so."""
    transposed = keys.transpose(1, 2)
    return transposed.contiguous() if _is_for_products(keys) else transposed


class _LayerCache:
    """Keys and values of one layer, and its products, as long as the weights do not change.

    Attributes:
        written: keys and values of the target, ``(2, sentences, heads, slots, head_dim)``.
        source_keys: ``(sentences * heads, head_dim, src_len)``, ``None`` without cross-attention.
        source_values: ``(sentences * heads, src_len, head_dim)``, likewise.
    """

    source_keys: Any = None
    source_values: Any = None

    def __init__(self, layer: DecoderLayer, source: Tensor, slots: int, packed: _Packed) -> None:
        attention, cross = layer.self_attn, layer.encoder_attn
        self.project, self.project_output = packed(attention, "q", "k", "v"), as_function(attention.out_proj)
        self.written = source.new_empty(2, source.size(1), attention.num_heads, slots, attention.head_dim)
        if cross is not None:
            self.project_queries, self.project_source = as_function(cross.q_proj), as_function(cross.out_proj)
            keys, values = packed(cross, "k", "v")(source).chunk(2, dim=-1)
            keys, self.source_values = (cross.split_heads(x).flatten(0, 1) for x in (keys, values))
            self.source_keys = _transposed(keys)

    def __call__(self, layer: DecoderLayer, x: Tensor, attend: _Attention) -> Tensor:
        """Return the layer's output, ``(1, sentences * beam, embed_dim)``, and write this step's keys and values.

        Args:
            layer: the layer.
            x: its input, ``(1, sentences * beam, embed_dim)``.
            attend: the attention of this step.
        """

        def self_attention(x: Tensor) -> Tensor:
            attention = layer.self_attn
            projected = self.project(x).view(-1, attend.beam, 3, attention.num_heads, attention.head_dim)
            queries, *new = projected.permute(2, 0, 3, 1, 4).unbind()  # each (sentences, heads, beam, head_dim)
            for written, part in zip(self.written.narrow(3, attend.written, attend.beam), new, strict=True):
                written.copy_(part)
            keys, values = self.written.flatten(1, 2).narrow(2, 0, attend.end)
            return self.project_output(attend(attention, queries, keys.transpose(1, 2), values))

        def cross_attention(x: Tensor) -> Tensor:
            attention = layer.encoder_attn
            queries = self.project_queries(x).view(-1, attend.beam, attention.num_heads, attention.head_dim)
            attended = attend(attention, queries.transpose(1, 2), self.source_keys, self.source_values)
            return self.project_source(attended)

        return layer.connect_sublayers(x, *layer.sublayers(self_attention, cross_attention, layer.feed_forward))

    def keep(self, sentences: Tensor) -> None:
        """Keep the keys and values of the source of some sentences only, given their places, ``(kept,)``."""
        if self.source_keys is not None:
            keys, self.source_values = (
                x.unflatten(0, (-1, self.written.size(2)))[sentences].flatten(0, 1)
                for x in (self.source_keys.transpose(1, 2), self.source_values)
            )
            self.source_keys = _transposed(keys)

    def move(self, rows: Tensor) -> None:
        """Keep only some keys and values of the target.

        Args:
            rows: where each of them is in ``written``, all but its last dimension flattened: ``(2, sentences, heads,
                slots)``.
        """
        before = self.written.flatten(0, 3)
        self.written = before.new_empty(*rows.shape[:3], *self.written.shape[3:])
        self.written[:, :, :, : rows.size(3)] = before.index_select(0, rows.flatten()).view(*rows.shape, before.size(1))

    def grow(self, more: int) -> None:
        self.written = F.pad(self.written, (0, 0, 0, more))

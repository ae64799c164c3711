"""Encoder and decoder: fairseq's, with layers of a residual scheme, tied parameters and word dropout."""

from __future__ import annotations

import torch
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from torch import Tensor, nn

from .kernels import FAST
from .kernels.linear import linear_layer
from .kernels.packing import Packing, packing
from .layer_stack import LayerStack
from .layers import DecoderLayer, EncoderLayer, IncrementalState
from .word_dropout import WordDropout


class Encoder(LayerStack, TransformerEncoderBase):
    """Transformer encoder of N layers; see :class:`LayerStack`.

    Attributes:
        clear_padding: whether the first layer's input is zero at padding, as in fairseq since 0.10.
    """

    name = "encoder"
    clear_padding = True

    def __init__(self, cfg, dictionary, embed_tokens) -> None:
        super().__init__(cfg, dictionary, embed_tokens)
        self.build_inputs()
        self.dropout_module.module_name = "TransformerEncoder"
        self.word_dropout = WordDropout(cfg.encoder.word_dropout)

    def build_encoder_layer(self, cfg):
        return self.wrap_layer(cfg, EncoderLayer(cfg, self.next_residual()))

    def forward_embedding(self, src_tokens: Tensor, token_embedding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the first layer's input and the scaled token embeddings, both ``(batch, src_len, embed_dim)``.

        Args:
            src_tokens: ``(batch, src_len)``.
            token_embedding: embeddings to use instead of the looked-up ones, ``(batch, src_len, embed_dim)``.
        """
        if token_embedding is None:
            token_embedding = self.embed_tokens(src_tokens)
        return super().forward_embedding(src_tokens, self.word_dropout(token_embedding))

    def forward_scriptable(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
    ) -> dict[str, list[Tensor]]:
        """Return fairseq's dictionary: ``encoder_out``, ``(src_len, batch, embed_dim)``, and what belongs to it.

        Args:
            src_tokens: ``(batch, src_len)``.
            src_lengths: superseded by the padding in ``src_tokens``.
            return_all_hiddens: also return ``encoder_states``: the first layer's input and each layer's output.
            token_embeddings: embeddings to use instead of the looked-up ones, ``(batch, src_len, embed_dim)``.
        """
        padding_mask = src_tokens.eq(self.padding_idx)
        mask = padding_mask if self.needs_mask(padding_mask) else None
        self.set_padding(mask)
        x, embedding = self.forward_embedding(src_tokens, token_embeddings)
        if mask is not None and self.clear_padding:
            x = x.masked_fill(mask.unsqueeze(-1), 0)
        scores = self.padding_scores(mask, x.dtype)
        x = self.time_first(x)
        states = [x] if return_all_hiddens else []

        def call(depth: int, layer: nn.Module, x: Tensor) -> Tensor:
            x = layer(x, encoder_padding_mask=mask, padding_scores=scores)
            if return_all_hiddens:
                states.append(self.first_stream(x))
            return x

        x = self.run_layers(x, call)
        return {
            "encoder_out": [x],
            "encoder_padding_mask": [padding_mask],
            "encoder_embedding": [embedding],
            "encoder_states": states,
            "fc_results": [],
            "src_tokens": [],
            "src_lengths": [src_tokens.ne(self.padding_idx).sum(dim=1, dtype=torch.int32).reshape(-1, 1)],
        }


class Decoder(LayerStack, TransformerDecoderBase):
    """Transformer decoder of N layers; see :class:`LayerStack`.

    Attributes:
        attn_in_training: whether to return attention in training too, for a criterion that supervises it.
        causal_hides_padding: whether padding only ever follows a target, so that no token sees it anyway; padded
            positions themselves then see it.
        unread: true where a criterion does not read the features, ``(batch, tgt_len)``; it is set for one forward pass.
            ``None``: all are read.
    """

    name = "decoder"

    def __init__(self, cfg, dictionary, embed_tokens, no_encoder_attn=False, output_projection=None) -> None:
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn, output_projection)
        self.build_inputs()
        self.dropout_module.module_name = "TransformerDecoder"
        self.attn_in_training = False
        self.unread: Tensor | None = None
        # fairseq pads targets on the right, unless a task says otherwise.
        self.causal_hides_padding = cfg.kernels == FAST
        self.word_dropout = WordDropout(cfg.decoder.word_dropout, keep_first=True)

    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return self.wrap_layer(cfg, DecoderLayer(cfg, self.next_residual(), no_encoder_attn))

    def forward_embedding(
        self, prev_output_tokens: Tensor, incremental_state: IncrementalState | None = None
    ) -> Tensor:
        """Return the first layer's input, ``(batch, tgt_len, embed_dim)``; ``tgt_len`` is 1 step by step.

        Args:
            prev_output_tokens: all tokens so far, ``(batch, tgt_len)``.
            incremental_state: present in step-by-step decoding.
        """
        positions = None
        if self.embed_positions is not None:
            positions = self.embed_positions(prev_output_tokens, incremental_state=incremental_state)
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
            positions = None if positions is None else positions[:, -1:]
        return self.embed(prev_output_tokens, positions)

    def embed(self, tokens: Tensor, positions: Tensor | None) -> Tensor:
        """Return the first layer's input, ``(batch, tgt_len, embed_dim)``.

        Args:
            tokens: ``(batch, tgt_len)``.
            positions: embeddings of their positions, ``(batch or 1, tgt_len, embed_dim)``, ``None`` without positions.
        """
        x = self.embed_scale * self.word_dropout(self.embed_tokens(tokens))
        if self.quant_noise is not None:
            x = self.quant_noise(x)
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        if positions is not None:
            x = x + positions
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return self.dropout_module(x)

    def step_positions(self, steps: int) -> Tensor | None:
        """Return the embeddings of the first positions, ``(1, steps, embed_dim)``, as in step-by-step decoding."""
        if self.embed_positions is None:
            return None
        # A table of learned positions has an end.
        steps = min(steps, int(self.embed_positions.max_positions))
        tokens = torch.full((1, steps), self.padding_idx + 1, device=self.embed_tokens.weight.device)
        return self.embed_positions(tokens)

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]] | None,
        incremental_state: IncrementalState | None = None,
        full_context_alignment: bool = False,
        alignment_layer: int | None = None,
        alignment_heads: int | None = None,
    ) -> tuple[Tensor, dict[str, list[Tensor | None]]]:
        """Return the decoder's features, ``(batch, tgt_len, output_dim)``, and attention and hidden states.

        The attention is that of one layer's cross-attention, mean over heads, ``(batch, tgt_len, src_len)``.  In
        training it is left out (``None``), since it costs time and memory, unless ``alignment_layer`` or
        ``attn_in_training`` asks for it.

        Args:
            prev_output_tokens: ``(batch, tgt_len)``.
            encoder_out: what the encoder returned; ``None`` for a decoder without cross-attention.
            incremental_state: present in step-by-step decoding; only the last token is then computed.
            full_context_alignment: let every position see the whole target.
            alignment_layer: the layer whose attention is returned (default: the last).
            alignment_heads: average over this many heads only.
        """
        want_attn = alignment_layer is not None or not self.training or self.attn_in_training
        if alignment_layer is None:
            alignment_layer = self.num_layers - 1
        source, source_padding_mask = self._source(encoder_out, is_stepwise=incremental_state is not None)
        x = self.time_first(self.forward_embedding(prev_output_tokens, incremental_state))
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
        causal = incremental_state is None and not full_context_alignment
        target_padding_mask = self._target_padding_mask(prev_output_tokens, causal)
        is_causal = causal and self.cfg.kernels == FAST and not self.cross_self_attention
        future_mask = self.buffered_future_mask(x) if causal and not is_causal else None
        scores = self.padding_scores(source_padding_mask, x.dtype) if incremental_state is None else None
        target_scores = self.padding_scores(target_padding_mask, x.dtype, is_causal) if is_causal else None

        packed = self._packing(prev_output_tokens) if is_causal else None

        attn: Tensor | None = None
        inner_states: list[Tensor | None] = [x]

        def call(depth: int, layer: nn.Module, x: Tensor) -> Tensor:
            nonlocal attn
            aligned = want_attn and depth == alignment_layer
            x, layer_attn, _ = layer(
                x,
                source,
                source_padding_mask,
                incremental_state,
                self_attn_mask=future_mask,
                self_attn_padding_mask=target_padding_mask,
                is_causal=is_causal,
                padding_scores=scores,
                self_padding_scores=target_scores,
                packing=packed,
                need_attn=aligned,
                need_head_weights=aligned,
            )
            if aligned and layer_attn is not None:
                attn = layer_attn.float().to(x)[:alignment_heads].mean(dim=0)
            inner_states.append(self.first_stream(x))
            return x

        x = self.run_layers(x, call).transpose(0, 1)
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        return x, {"attn": [attn], "inner_states": inner_states}

    def _source(
        self, encoder_out: dict[str, list[Tensor]] | None, is_stepwise: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the encoder's output, ``(src_len, batch, encoder_embed_dim)``, and its padding, ``(batch, src_len)``.

        Args:
            encoder_out: what the encoder returned, or ``None``.
            is_stepwise: whether one token is decoded at a time; then the mask is not looked into at each step.
        """
        if encoder_out is None:
            return None, None
        source = encoder_out["encoder_out"][0] if encoder_out["encoder_out"] else None
        masks = encoder_out["encoder_padding_mask"]
        return source, masks[0] if masks and (is_stepwise or self.needs_mask(masks[0])) else None

    def _target_padding_mask(self, prev_output_tokens: Tensor, causal: bool) -> Tensor | None:
        """Return the padding of the target, ``(batch, tgt_len)``, if self-attention needs it."""
        if self.cross_self_attention:
            # The mask of the source is joined to this one.
            return prev_output_tokens.eq(self.padding_idx)
        if causal and self.causal_hides_padding:
            return None
        mask = prev_output_tokens.eq(self.padding_idx)
        return mask if self.needs_mask(mask) else None

    def _packing(self, prev_output_tokens: Tensor) -> Packing | None:
        """Return which positions, ``(tgt_len * batch,)``, are tokens, if it pays to leave padding out of the products.

        It pays in training on a CPU, and padding must come after the words, where no word sees it.  Compiled code would
        be compiled for each number of tokens.  A norm that is told where the batch is padded expects all of it.
        """
        is_for_cpu = prev_output_tokens.device.type == "cpu" and not self.cfg.compile
        if not is_for_cpu or self.unread is None or not self.training or not torch.is_grad_enabled():
            return None
        if self.unread.shape != prev_output_tokens.shape or self.plan.build_norm.norm.needs_padding:
            return None
        padding = prev_output_tokens.eq(self.padding_idx) & self.unread
        comes_before_a_word = padding[:, :-1] & ~padding[:, 1:]
        return None if comes_before_a_word.any() else packing(padding.t().flatten())

    def output_layer(self, features: Tensor) -> Tensor:
        """Return the logits, ``(batch, tgt_len, vocabulary)``; with an adaptive softmax the features as they are.

        Args:
            features: ``(batch, tgt_len, output_dim)``.
        """
        if self.adaptive_softmax is not None or self.cfg.kernels != FAST:
            return super().output_layer(features)
        return linear_layer(self.output_projection, features)

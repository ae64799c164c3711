"""Encoder and decoder layer: which sub-layers, in which order.

The residual scheme of a layer joins each sub-layer to the residual stream.  Parameters, their names and their
initialization are fairseq's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase, TransformerEncoderLayerBase
from torch import Tensor, nn

from .kernels import FAST
from .kernels.attention import FusedMultiheadAttention
from .kernels.compilation import CompiledInTraining
from .kernels.linear import linear, linear_layer
from .kernels.packing import Packing
from .normalization import padded_norms
from .residual import ResidualScheme
from .residual.contract import SubLayer, join_streams, split_streams

IncrementalState = dict[str, dict[str, "Tensor | None"]]

_NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")


class NormedLinear(nn.Linear):
    """A linear map of a normalized input, ``W norm(x) + b``.

    Args:
        stock: the linear map in whose place it stands; parameters and their names stay the same.
        norm: the norm.
        product: the function of ``(x, weight, bias)`` that computes the map.
    """

    def __init__(self, stock: nn.Linear, norm: nn.Module, product: Callable[..., Tensor]) -> None:
        # not that of a linear layer, which would draw new weights
        nn.Module.__init__(self)
        self.in_features, self.out_features = stock.in_features, stock.out_features
        self.weight, self.bias, self.norm, self.product = stock.weight, stock.bias, norm, product
        # --quant-noise-pq changes weights in a hook.
        self._forward_pre_hooks.update(stock._forward_pre_hooks)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the norm of ``x``: ``(..., in_features)`` becomes ``(..., out_features)``."""
        return self.product(self.norm(x), self.weight, self.bias)


class ResidualLayer(CompiledInTraining):
    """What both kinds of layers have: a residual scheme, norms, and the feed-forward sub-layer ``W2 act(W1 x)``."""

    fc2: nn.Linear

    def attach(self, cfg, residual: ResidualScheme, stock_class: type) -> None:
        """Complete a layer that fairseq has built.

        Args:
            cfg: fairseq's ``TransformerConfig`` with this plugin's ``kernels``.
            residual: the layer's scheme.
            stock_class: fairseq's class of the layer.
        """
        self.residual = residual
        self.linear_layer = linear_layer if cfg.kernels == FAST else nn.Module.__call__
        # fairseq has no hook for the norms of a layer, so they are built first and then replaced.
        for name in _NORMS:
            if getattr(self, name, None) is not None:
                norm = residual.position.build_norm(self.embed_dim) if residual.has_norms else nn.Identity()
                setattr(self, name, norm)
        if residual.norm_inside:
            self._add_inner_norms(linear if cfg.kernels == FAST else F.linear)
        # --retain-dropout-modules selects modules by these names.
        self.dropout_module.module_name = self.activation_dropout_module.module_name = stock_class.__name__

    def _add_inner_norms(self, product: Callable[..., Tensor]) -> None:
        build_norm = self.residual.position.build_norm
        attention = self.self_attn
        attention.out_proj = NormedLinear(attention.out_proj, build_norm(attention.embed_dim), product)
        self.fc2 = NormedLinear(self.fc2, build_norm(self.fc2.in_features), product)
        # PyTorch's function of multi-head attention reads the weight of the output projection, not its norm.  fairseq
        # computes attention by itself if its width is not to be checked; with xFormers it always does.
        attention.skip_embed_dim_check = not attention.use_xformers

    def feed_forward(self, x: Tensor, packing: Packing | None = None) -> Tensor:
        """Return the feed-forward sub-layer with dropout, ``(seq_len, batch, embed_dim)``.

        Args:
            x: ``(seq_len, batch, embed_dim)``.
            packing: which of ``x`` are tokens; the output at padding is then zero.
        """
        # Dropout between the two products would draw other random numbers without the padding.
        packing = None if self.activation_dropout_module.p > 0 else packing
        # A linear layer with three-dimensional input returns a view, and autograd must copy a view before it is
        # overwritten.  So x becomes a matrix, and ReLU and dropout overwrite what nothing else reads.
        rows = x.flatten(0, 1)
        hidden = self._two_products(rows) if packing is None else packing.apply(self._two_products, rows)
        # On a GPU dropout is one kernel only if it overwrites nothing.
        return self.dropout_module(hidden, inplace=not hidden.is_cuda).view_as(x)

    def _two_products(self, rows: Tensor) -> Tensor:
        hidden = self.linear_layer(self.fc1, rows)  # (tokens, ffn_embed_dim)
        hidden = F.relu_(hidden) if self.activation_fn is F.relu else self.activation_fn(hidden)
        hidden = self.activation_dropout_module(hidden)
        return self.linear_layer(self.fc2, hidden)  # (tokens, embed_dim)

    def connect_sublayers(self, x: Tensor, *sublayers: tuple[SubLayer | None, Any]) -> Tensor:
        """Return the output of the layer, ``(seq_len, batch, embed_dim)``.

        Args:
            x: the layer's input, ``(seq_len, batch, embed_dim)``.
            *sublayers: each sub-layer with its norm, in order; ``None`` is left out.

        With several residual streams input and output are ``(num_streams, seq_len, batch, embed_dim)``.
        """
        x = layer_input = split_streams(x, self.residual.num_streams)
        for index, (sublayer, norm) in enumerate(sublayers):
            if sublayer is not None:
                x = self.residual.connect(x, sublayer, norm, layer_input, index)
        return join_streams(x)


def _attention_class(cfg) -> type[MultiheadAttention]:
    return FusedMultiheadAttention if cfg.kernels == FAST else MultiheadAttention


class EncoderLayer(ResidualLayer, TransformerEncoderLayerBase):
    """Self-attention, then feed-forward.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        residual: the scheme that joins the sub-layers, built for this layer's position.
    """

    def __init__(self, cfg, residual: ResidualScheme) -> None:
        super().__init__(cfg)
        self.attach(cfg, residual, TransformerEncoderLayerBase)
        self.padded_norms = padded_norms(self)

    def build_self_attention(self, embed_dim: int, cfg) -> MultiheadAttention:
        return _attention_class(cfg)(
            embed_dim,
            cfg.encoder.attention_heads,
            dropout=cfg.attention_dropout,
            self_attention=True,
            q_noise=self.quant_noise,
            qn_block_size=self.quant_noise_block_size,
            xformers_att_config=cfg.encoder.xformers_att_config,
        )

    def forward(
        self,
        x: Tensor,
        encoder_padding_mask: Tensor | None,
        attn_mask: Tensor | None = None,
        padding_scores: Tensor | None = None,
    ) -> Tensor:
        """Return the layer's output, ``(seq_len, batch, embed_dim)``.

        Args:
            x: the layer's input, ``(seq_len, batch, embed_dim)``.
            encoder_padding_mask: true at padding, ``(batch, seq_len)``, or ``None``.
            attn_mask: true where a query (row) must not see a key (column), ``(seq_len, seq_len)``, or ``None``.
            padding_scores: the padding mask as ``--kernels fast`` adds it to the scores, made once for all layers.
        """
        if attn_mask is not None:
            # A large number instead of infinity, because a padded query may see no key at all.
            attn_mask = attn_mask.masked_fill(attn_mask.to(torch.bool), -1e8 if x.dtype == torch.float32 else -1e4)
        # Here and not once for the stack, because --checkpoint-activations calls this again in the backward pass.
        for norm in self.padded_norms:
            norm.padding_mask = None if encoder_padding_mask is None else encoder_padding_mask.t()

        def self_attention(x: Tensor) -> Tensor:
            x, _ = self.self_attn(
                query=x,
                key=x,
                value=x,
                key_padding_mask=encoder_padding_mask,
                need_weights=False,
                attn_mask=attn_mask,
                **_known_to_fused(padding_scores=padding_scores),
            )
            return self.dropout_module(x)

        return self.connect_sublayers(
            x, (self_attention, self.self_attn_layer_norm), (self.feed_forward, self.final_layer_norm)
        )


class DecoderLayer(ResidualLayer, TransformerDecoderLayerBase):
    """Self-attention, cross-attention (unless ``no_encoder_attn``), then feed-forward.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        residual: the scheme that joins the sub-layers, built for this layer's position.
        no_encoder_attn: build no cross-attention.
    """

    def __init__(self, cfg, residual: ResidualScheme, no_encoder_attn: bool = False) -> None:
        super().__init__(cfg, no_encoder_attn)
        self.attach(cfg, residual, TransformerDecoderLayerBase)

    def build_self_attention(
        self, embed_dim: int, cfg, add_bias_kv: bool = False, add_zero_attn: bool = False
    ) -> MultiheadAttention:
        return _attention_class(cfg)(
            embed_dim,
            cfg.decoder.attention_heads,
            dropout=cfg.attention_dropout,
            add_bias_kv=add_bias_kv,
            add_zero_attn=add_zero_attn,
            self_attention=not cfg.cross_self_attention,
            q_noise=self.quant_noise,
            qn_block_size=self.quant_noise_block_size,
            xformers_att_config=cfg.decoder.xformers_att_config,
        )

    def build_encoder_attention(self, embed_dim: int, cfg) -> MultiheadAttention:
        return _attention_class(cfg)(
            embed_dim,
            cfg.decoder.attention_heads,
            kdim=cfg.encoder.embed_dim,
            vdim=cfg.encoder.embed_dim,
            dropout=cfg.attention_dropout,
            encoder_decoder_attention=True,
            q_noise=self.quant_noise,
            qn_block_size=self.quant_noise_block_size,
            xformers_att_config=cfg.encoder.xformers_att_config,
        )

    def forward(
        self,
        x: Tensor,
        encoder_out: Tensor | None = None,
        encoder_padding_mask: Tensor | None = None,
        incremental_state: IncrementalState | None = None,
        *,
        self_attn_mask: Tensor | None = None,
        self_attn_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        padding_scores: Tensor | None = None,
        self_padding_scores: Tensor | None = None,
        packing: Packing | None = None,
        need_attn: bool = False,
        need_head_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Return the layer's output, ``(tgt_len, batch, embed_dim)``, its attention weights, and ``None``.

        The weights are those of the cross-attention, ``(batch, tgt_len, src_len)`` averaged over heads or
        ``(heads, batch, tgt_len, src_len)``, or ``None`` if they were not asked for.

        Args:
            x: the layer's input, ``(tgt_len, batch, embed_dim)``; in step-by-step decoding ``tgt_len`` is 1.
            encoder_out: the encoder's output, ``(src_len, batch, encoder_embed_dim)``.
            encoder_padding_mask: true at source padding, ``(batch, src_len)``.
            incremental_state: keys and values of the steps so far, kept per attention module.
            self_attn_mask: added to the attention scores, ``(tgt_len, tgt_len)``; minus infinity hides a key.
            self_attn_padding_mask: true at target padding, ``(batch, tgt_len)``.
            is_causal: whether ``self_attn_mask`` hides later keys and nothing else; for ``--kernels fast`` only.
            padding_scores: the source's padding mask as ``--kernels fast`` adds it to the scores, made once for all
                layers.
            self_padding_scores: the same for the target, together with causality.
            packing: which target positions are tokens, for ``--kernels fast``; products are computed for these only.
            need_attn: return attention weights.
            need_head_weights: return them for each head; implies ``need_attn``.
        """
        attn = None

        def self_attention(x: Tensor) -> Tensor:
            key, mask, padding_mask = x, self_attn_mask, self_attn_padding_mask
            if self.cross_self_attention and not self._has_cached_keys(incremental_state):
                key, mask, padding_mask = _prepend_encoder(
                    x, encoder_out, encoder_padding_mask, self_attn_mask, self_attn_padding_mask
                )
            x, _ = self.self_attn(
                query=x,
                key=key,
                value=key,
                key_padding_mask=padding_mask,
                incremental_state=incremental_state,
                need_weights=False,
                attn_mask=mask,
                **_known_to_fused(is_causal=is_causal, padding_scores=self_padding_scores, packing=packing),
            )
            return self.dropout_module(x)

        def cross_attention(x: Tensor) -> Tensor:
            nonlocal attn
            x, attn = self.encoder_attn(
                query=x,
                key=encoder_out,
                value=encoder_out,
                key_padding_mask=encoder_padding_mask,
                incremental_state=incremental_state,
                static_kv=True,
                need_weights=need_attn or need_head_weights,
                need_head_weights=need_head_weights,
                **_known_to_fused(padding_scores=padding_scores, packing=packing),
            )
            return self.dropout_module(x)

        attend = cross_attention if encoder_out is not None else None
        feed_forward = partial(self.feed_forward, packing=packing)
        x = self.connect_sublayers(x, *self.sublayers(self_attention, attend, feed_forward))
        return x, attn, None

    def sublayers(
        self, self_attention: SubLayer, cross_attention: SubLayer | None, feed_forward: SubLayer
    ) -> list[tuple]:
        """Return what :meth:`connect_sublayers` takes, from functions of ``(tgt_len, batch, embed_dim)``."""
        attention: list[tuple] = [(self_attention, self.self_attn_layer_norm)]
        if self.encoder_attn is not None:
            attention.append((cross_attention, self.encoder_attn_layer_norm))
        return [*attention, (feed_forward, self.final_layer_norm)]

    def _has_cached_keys(self, incremental_state: IncrementalState | None) -> bool:
        return incremental_state is not None and "prev_key" in self.self_attn._get_input_buffer(incremental_state)


def _known_to_fused(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that say something; fairseq's own attention does not know these."""
    return {name: value for name, value in arguments.items() if value is not None and value is not False}


def _prepend_encoder(
    x: Tensor,
    encoder_out: Any,
    encoder_padding_mask: Tensor | None,
    self_attn_mask: Tensor | None,
    self_attn_padding_mask: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return keys, attention mask and padding mask of ``--cross-self-attention``: source first, then target."""
    if self_attn_mask is not None:
        see_all_of_source = x.new_zeros(x.size(0), encoder_out.size(0))
        self_attn_mask = torch.cat((see_all_of_source, self_attn_mask), dim=1)
    if self_attn_padding_mask is not None:
        if encoder_padding_mask is None:
            encoder_padding_mask = self_attn_padding_mask.new_zeros(encoder_out.size(1), encoder_out.size(0))
        self_attn_padding_mask = torch.cat((encoder_padding_mask, self_attn_padding_mask), dim=1)
    return torch.cat((encoder_out, x), dim=0), self_attn_mask, self_attn_padding_mask

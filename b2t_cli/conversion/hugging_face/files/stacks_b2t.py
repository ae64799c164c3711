"""Encoder and decoder: embeddings and layers; the names of the parameters are fairseq's."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from .layers_b2t import Layer, build_positions, norm_builder
from .residual_b2t import SCHEME


class Stack(nn.Module):
    """What encoder and decoder have in common.

    Args:
        config: the model's configuration.
        name: ``"encoder"`` or ``"decoder"``.
        source_dim: width of the encoder's output, for a decoder.
    """

    def __init__(self, config: Any, name: str, source_dim: int | None = None) -> None:
        super().__init__()
        stack = SimpleNamespace(**getattr(config, f"{name}_stack"))
        dim, build_norm = stack.embed_dim, norm_builder(stack)
        self.padding, self.dropout, self.center_embedding = config.pad_token_id, config.dropout, config.center_embedding
        self.embed_scale = math.sqrt(dim) if config.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(stack.vocab_size, dim, self.padding)
        self.embed_positions = build_positions(stack, self.padding)
        self.layernorm_embedding = build_norm(dim) if stack.embedding_norm else None
        self.layers = nn.ModuleList(Layer(config, stack, name, i, source_dim) for i in range(len(stack.depths)))
        self.layer_norm = build_norm(dim) if stack.final_norm else nn.Identity()
        self.inputs = None
        if SCHEME.stack_input is not None:
            depths = range(len(self.layers) + 1)
            self.inputs = nn.ModuleList(SCHEME.stack_input(depth, dim, build_norm) for depth in depths)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the first layer's input, ``(batch, seq_len, embed_dim)``.

        Args:
            tokens: ``(batch, seq_len)``.
            positions: those of the tokens, ``(batch or 1, seq_len)``; the first one is ``padding + 1``.
        """
        x = self.embed_scale * self.embed_tokens(tokens)
        if self.embed_positions is not None:
            x = x + self.embed_positions(positions).to(x.dtype)
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return F.dropout(x, self.dropout, self.training)

    def run(self, x: Tensor, *args: Any) -> Tensor:
        """Return the output of the stack, ``(batch, seq_len, embed_dim)``.

        Args:
            x: the first layer's input, of the same shape.
            *args: what each layer takes besides its input.
        """
        if self.center_embedding:
            x = x - x.mean(dim=-1, keepdim=True)
        history: list[Tensor] = []
        streams = x if SCHEME.num_streams == 1 else (x,) * SCHEME.num_streams
        for depth, layer in enumerate(self.layers):
            if self.inputs is not None:
                streams = self.inputs[depth](streams, history)
            streams = layer(streams, *args)
        if self.inputs is not None:
            streams = self.inputs[-1](streams, history)
        return SCHEME.stack_output(streams, self.layer_norm)


class Encoder(Stack):
    """The encoder; positions count from the first token that is no padding, on whichever side the padding is."""

    main_input_name = "input_ids"

    def __init__(self, config: Any) -> None:
        super().__init__(config, "encoder")

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **outputs: Any) -> BaseModelOutput:
        """Return the encoder's output.

        Args:
            input_ids: ``(batch, seq_len)``.
            attention_mask: zero at padding, ``(batch, seq_len)``; by default that of the padding in ``input_ids``.
            **outputs: what else ``generate`` asks for; attention weights and hidden states are not returned.
        """
        if outputs.get("output_attentions") or outputs.get("output_hidden_states"):
            raise ValueError("this model returns neither attention weights nor hidden states")
        is_token = input_ids.ne(self.padding)
        positions = is_token.cumsum(dim=1) * is_token + self.padding
        x = self.embed(input_ids, positions)
        return BaseModelOutput(last_hidden_state=self.run(x, key_mask(input_ids, attention_mask, self.padding)))


class Decoder(Stack):
    """The decoder with the output layer."""

    def __init__(self, config: Any) -> None:
        super().__init__(config, "decoder", config.encoder_stack["embed_dim"])
        stack = SimpleNamespace(**config.decoder_stack)
        self.project_out_dim = None
        if stack.output_dim != stack.embed_dim:
            self.project_out_dim = nn.Linear(stack.embed_dim, stack.output_dim, bias=False)
        self.output_projection = nn.Linear(stack.output_dim, stack.vocab_size, bias=False)

    def forward(self, tokens: Tensor, source: Tensor, source_mask: Tensor, cache: EncoderDecoderCache | None) -> Tensor:
        """Return the logits, ``(batch, tgt_len, vocab_size)``.

        Args:
            tokens: those not yet in the cache, ``(batch, tgt_len)``; padding may only follow them.
            source: the encoder's output, ``(batch, src_len, embed_dim)``.
            source_mask: true where the source is no padding, ``(batch, 1, 1, src_len)``.
            cache: keys and values of the tokens before.
        """
        before, length = cache.get_seq_length() if cache is not None else 0, tokens.size(1)
        places = torch.arange(before, before + length, device=tokens.device)
        causal = places.unsqueeze(1) >= torch.arange(before + length, device=tokens.device)  # (tgt_len, keys)
        x = self.embed(tokens, places.unsqueeze(0) + self.padding + 1)
        x = self.run(x, causal[None, None], source, source_mask, cache)
        return self.output_projection(x if self.project_out_dim is None else self.project_out_dim(x))


def key_mask(tokens: Tensor | None, attention_mask: Tensor | None, padding: int) -> Tensor | None:
    """Return where the source is no padding, ``(batch, 1, 1, src_len)``; ``None``: it has none."""
    if attention_mask is None:
        attention_mask = None if tokens is None else tokens.ne(padding)
    return None if attention_mask is None else attention_mask.bool()[:, None, None]

"""A translation model that b2t_fairseq has trained, with fairseq's beam search by ``generate``.

The equation of the residual scheme is in ``residual_b2t.py``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from .residual_b2t import SCHEME
from .stacks_b2t import Decoder, Encoder, key_mask


class B2TConfig(PreTrainedConfig):
    """What the model's code has to know besides the weights.

    It stands in the same file as the model, because transformers keeps one class of models for each class of
    configurations, and models with different residual schemes must not get each other's code.

    Args:
        residual: the name of the residual scheme, for readers; its code is in ``residual_b2t.py``.
        encoder_stack: the encoder: ``vocab_size``, ``embed_dim``, ``ffn_dim``, ``heads``, ``num_layers``, ``depths``
            (of the layers, from 0), ``other_layers``, ``num_sublayers``, ``norm`` with its ``norm_settings``,
            ``positions`` (``null``, ``"sinusoidal"`` or ``"learned"``), ``max_positions``, and whether there is a norm
            of the embedding (``embedding_norm``) and one after the stack (``final_norm``).
        decoder_stack: the decoder likewise, with ``output_dim``, the width that the output layer reads.
        scheme_settings: settings that only the residual scheme reads.
        activation: the activation function of the feed-forward sub-layers.
        scale_embedding: whether embeddings are multiplied by the square root of their width.
        center_embedding: whether the mean is subtracted from what the first layer reads.
        dropout: probability of dropping an element of the embedding or of the output of a sub-layer, in training.
        attention_dropout: probability of dropping an attention weight, in training.
        activation_dropout: probability of dropping an element of the feed-forward hidden state, in training.
        tied: for each parameter, or module, that has the weights of another one, the name of the other one.
        **kwargs: settings of all models of transformers.
    """

    model_type = "b2t"

    def __init__(
        self,
        residual: str = "",
        encoder_stack: dict[str, Any] | None = None,
        decoder_stack: dict[str, Any] | None = None,
        scheme_settings: dict[str, Any] | None = None,
        activation: str = "relu",
        scale_embedding: bool = True,
        center_embedding: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        tied: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.residual = residual
        self.encoder_stack, self.decoder_stack = encoder_stack or {}, decoder_stack or {}
        self.scheme_settings = scheme_settings or {}
        self.activation = activation
        self.scale_embedding, self.center_embedding = scale_embedding, center_embedding
        self.dropout, self.attention_dropout, self.activation_dropout = dropout, attention_dropout, activation_dropout
        self.tied = tied or {}
        # the names under which transformers asks for them
        self.vocab_size = self.decoder_stack.get("vocab_size")
        self.hidden_size = self.decoder_stack.get("embed_dim")
        self.num_attention_heads = self.decoder_stack.get("heads")
        self.num_hidden_layers = len(self.decoder_stack.get("depths", ()))
        super().__init__(**kwargs)


class EndAtMaximum(LogitsProcessor):
    """Lets the last token be the end of the sentence, with its own probability, as fairseq does.

    Args:
        max_length: the most tokens of a translation, with the one before the first.
        end: the end of the sentence.
    """

    def __init__(self, max_length: int, end: int) -> None:
        self.max_length, self.end = max_length, end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.size(1) < self.max_length - 1:
            return scores
        ended = torch.full_like(scores, -math.inf)
        ended[:, self.end] = scores[:, self.end]
        return ended


class B2TForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """The whole model."""

    config_class = B2TConfig
    base_model_prefix = ""
    main_input_name = "input_ids"

    def __init__(self, config: B2TConfig) -> None:
        super().__init__(config)
        if config.residual != SCHEME.name:
            raise ValueError(f"the configuration is of --residual {config.residual}, but the code of {SCHEME.name}")
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        names = [name for name, _ in self.named_parameters(remove_duplicate=False)]
        self._tied_weights_keys = {
            name: owner + name[len(module) :]
            for module, owner in config.tied.items()
            for name in names
            if name == module or name.startswith(f"{module}.")
        }
        self.post_init()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Return the tied parameters: embeddings and the layers that share; transformers reads names as patterns."""
        return dict(self._tied_weights_keys)

    def get_encoder(self, *args: Any, **kwargs: Any) -> Encoder:
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.decoder.output_projection

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Return what the decoder reads to predict ``labels``, ``(batch, tgt_len)``: the end, then all but the last."""
        tokens = labels.masked_fill(labels.eq(-100), self.config.pad_token_id)
        start = torch.full_like(tokens[:, :1], self.config.decoder_start_token_id)
        return torch.cat([start, tokens[:, :-1]], dim=1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        cache: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
    ) -> Seq2SeqLMOutput | tuple:
        """Return the logits, ``(batch, tgt_len, vocab_size)``, and with ``labels`` the mean loss of a token.

        Args:
            input_ids: source tokens with the end of the sentence, ``(batch, src_len)``.
            attention_mask: zero at padding of the source, ``(batch, src_len)``.
            decoder_input_ids: the end of the sentence, then the target, ``(batch, tgt_len)``, padded on the right.
            labels: the target with the end of the sentence, ``(batch, tgt_len)``; -100 at padding.
            encoder_outputs: what the encoder has returned before, in place of ``input_ids``.
            cache: keys and values of earlier steps.
            use_cache: return such a cache.
            return_dict: return an object with names, not a tuple.
        """
        if decoder_input_ids is None and labels is not None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if decoder_input_ids is None:
            raise ValueError("give decoder_input_ids or labels, or call generate to translate")
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask)
        if use_cache and cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        mask = key_mask(input_ids, attention_mask, self.config.pad_token_id)
        logits = self.decoder(decoder_input_ids, encoder_outputs[0], mask, cache)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        output = Seq2SeqLMOutput(loss=loss, logits=logits, cache=cache, encoder_last_hidden_state=encoder_outputs[0])
        return output if return_dict is not False else output.to_tuple()

    def _get_logits_processor(self, generation_config: Any, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        processors = super()._get_logits_processor(generation_config, *args, **kwargs)
        end = self.config.eos_token_id
        processors.append(EndAtMaximum(generation_config.max_length, end))
        return processors

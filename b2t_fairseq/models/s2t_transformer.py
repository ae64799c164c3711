"""``b2t_s2t_transformer``: speech to text with a residual scheme and shared layers, by size."""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from fairseq.models import register_model, register_model_architecture
from fairseq.models.speech_to_text import s2t_transformer as stock
from fairseq.models.transformer import TransformerConfig
from torch import Tensor, nn

from b2t_common.errors import InputError

from .. import checkpoints
from ..layer_stack import LayerStack
from ..layers import EncoderLayer, IncrementalState
from ..settings.fields import B2TSpeechConfig, add_flags
from ..settings.plan import plan_speech
from ..stacks import Decoder
from .assembly import LoadsCheckpoints, fairseq_settings, initialize_and_tie


class SpeechEncoder(LayerStack, stock.S2TTransformerEncoder):
    """fairseq's encoder of speech, convolutions below N layers; see :class:`~b2t_fairseq.layer_stack.LayerStack`."""

    name = "encoder"
    layers_name = "transformer_layers"
    embeds_time_first = True

    def __init__(self, args: Namespace) -> None:
        # fairseq's parts, without its layers and without what it builds after them.
        super().__init__(Namespace(**{**vars(args), "encoder_layers": 0, "ctc_weight": 0.0}))
        self.cfg = cfg = TransformerConfig.from_namespace(args)
        self.transformer_layers.extend(self.build_layer(cfg) for _ in range(cfg.encoder.layers))
        self.build_inputs()
        has_norm, build_norm = self.plan.scheme.norm_of_embedding, self.plan.build_norm
        # fairseq's encoder of speech has no norm of what its first layer reads.
        self.layernorm_embedding = build_norm(self.plan.embed_dim) if has_norm else None
        if getattr(args, "ctc_weight", 0.0) > 0:
            self.ctc_proj = nn.Linear(args.encoder_embed_dim, args.tgt_dict_size)
        self.dropout_module.module_name = stock.S2TTransformerEncoder.__name__

    @property
    def layers(self) -> nn.ModuleList:
        return self.transformer_layers

    def build_layer(self, cfg: TransformerConfig) -> nn.Module:
        return self.wrap_layer(cfg, EncoderLayer(cfg, self.next_residual()))

    def _forward(
        self, src_tokens: Tensor, src_lengths: Tensor, return_all_hiddens: bool = False
    ) -> dict[str, list[Tensor]]:
        """Return fairseq's dictionary: ``encoder_out``, ``(src_len, batch, embed_dim)``, and what belongs to it.

        ``src_len`` is that of the convolutions' output, a quarter of ``frames`` by default.

        Args:
            src_tokens: features, ``(batch, frames, features)``, zero at padding.
            src_lengths: number of frames of each utterance, ``(batch,)``.
            return_all_hiddens: also return ``encoder_states``: the output of each layer.
        """
        x, lengths = self.subsample(src_tokens, src_lengths)
        padding_mask = torch.arange(x.size(0), device=x.device) >= lengths.unsqueeze(1)
        mask = padding_mask if self.needs_mask(padding_mask) else None
        self.set_padding(mask)
        x = self.embed_scale * x
        # In place, because x must keep its type: under automatic mixed precision positions are float32.
        x += self.embed_positions(padding_mask).transpose(0, 1)
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        x = self.dropout_module(x)
        scores = self.padding_scores(mask, x.dtype)
        states: list[Tensor] = []

        def call(depth: int, layer: nn.Module, x: Tensor) -> Tensor:
            x = layer(x, mask, padding_scores=scores)
            if return_all_hiddens:
                states.append(self.first_stream(x))
            return x

        return {
            "encoder_out": [self.run_layers(x, call)],
            "encoder_padding_mask": [] if mask is None else [mask],
            "encoder_embedding": [],
            "encoder_states": states,
            "src_tokens": [],
            "src_lengths": [],
        }


class SpeechDecoder(Decoder):
    """The decoder, which passes on the encoder's output, as fairseq's criterion with CTC needs it."""

    def __init__(self, cfg, dictionary, embed_tokens) -> None:
        super().__init__(cfg, dictionary, embed_tokens)
        self.dropout_module.module_name = stock.TransformerDecoderScriptable.__name__

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]] | None,
        incremental_state: IncrementalState | None = None,
        *args,
        **kwargs,
    ) -> tuple[Tensor, dict]:
        """Return the decoder's features; see :meth:`~b2t_fairseq.stacks.Decoder.extract_features`."""
        x, extra = super().extract_features(prev_output_tokens, encoder_out, incremental_state, *args, **kwargs)
        return x, {**extra, "encoder_out": encoder_out}


@register_model("b2t_s2t_transformer")
class B2TSpeechToTextModel(LoadsCheckpoints, stock.S2TTransformerModel):
    """fairseq's ``s2t_transformer`` whose layers follow ``--residual`` and share as ``--layer-sharing`` says.

    Parameter names are fairseq's, so stock Post-LN and Pre-LN checkpoints load.
    """

    @classmethod
    def add_args(cls, parser) -> None:
        """Add the flags to fairseq's parser; defaults are left to the architecture."""
        super().add_args(parser)
        add_flags(parser, B2TSpeechConfig)

    @classmethod
    def build_model(cls, args: Namespace, task) -> B2TSpeechToTextModel:
        """Validate the settings, build both stacks, initialize, tie, read ``--load-pretrained-encoder-from``.

        Args:
            args: the model's settings, filled by the architecture.  The name of a pretrained encoder is removed from
                them, because from then on its weights are those of the model's own checkpoints.
            task: fairseq task with ``target_dictionary``.

        Raises:
            InputError: settings that contradict each other, or a pretrained encoder that does not fit.
        """
        plan = plan_speech(args)
        model = super().build_model(fairseq_settings(plan), task)
        initialize_and_tie(model, plan, [model.decoder.embed_tokens])
        if args.load_pretrained_encoder_from and not model.unread_files:
            _load_encoder(model.encoder, args.load_pretrained_encoder_from)
            args.load_pretrained_encoder_from = None
        return model

    @classmethod
    def build_encoder(cls, args: Namespace) -> SpeechEncoder:
        return SpeechEncoder(args)

    @classmethod
    def build_decoder(cls, args: Namespace, task, embed_tokens: nn.Embedding) -> SpeechDecoder:
        return SpeechDecoder(TransformerConfig.from_namespace(args), task.target_dictionary, embed_tokens)

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor, prev_output_tokens: Tensor, features_only: bool = False
    ) -> tuple[Tensor, dict]:
        """Return the logits, ``(batch, tgt_len, vocabulary)``, and what the decoder returns besides.

        Args:
            src_tokens: features, ``(batch, frames, features)``, zero at padding.
            src_lengths: number of frames of each utterance, ``(batch,)``.
            prev_output_tokens: ``(batch, tgt_len)``.
            features_only: return the decoder's features instead, ``(batch, tgt_len, embed_dim)``.
        """
        encoder_out = self.encoder(src_tokens=src_tokens, src_lengths=src_lengths)
        return self.decoder(prev_output_tokens, encoder_out=encoder_out, features_only=features_only)


def _load_encoder(encoder: SpeechEncoder, path: str) -> None:
    """Read the encoder of another model's checkpoint.

    Raises:
        InputError: there is no such checkpoint, or its encoder has other layers, another scheme or other sharing.
    """
    prefix = "encoder."
    try:
        stored = checkpoints.load(path)["model"]
        state: Any = OrderedDict((name[len(prefix) :], stored[name]) for name in stored if name.startswith(prefix))
        own = getattr(stored, "_metadata", {}).get(prefix[:-1], {})
        # load_state_dict reads this entry, and fairseq's own function drops it.
        state._metadata = OrderedDict({"": own})
        encoder.load_state_dict(state)
    except (InputError, RuntimeError) as error:
        raise InputError(
            f"--load-pretrained-encoder-from {path} cannot be used: {error}; give the flags of that model, or drop "
            "this one; a run that has read its encoder does not need it any more"
        ) from None


def _fill(args: Namespace, architecture: Callable[[Namespace], None]) -> None:
    """Fill in this plugin's defaults, then those of fairseq's architecture."""
    # fairseq's architectures are Pre-LN; here the scheme decides where the norms are.
    args.encoder_normalize_before = getattr(args, "encoder_normalize_before", False)
    args.decoder_normalize_before = getattr(args, "decoder_normalize_before", False)
    args.load_pretrained_encoder_from = getattr(args, "load_pretrained_encoder_from", None)
    for own in fields(B2TSpeechConfig):
        setattr(args, own.name, getattr(args, own.name, own.default))
    architecture(args)


@register_model_architecture("b2t_s2t_transformer", "b2t_s2t_transformer")
def b2t_s2t_transformer(args: Namespace) -> None:
    """12-6 layers, 512 wide, FFN 2048, 8 heads."""
    _fill(args, stock.base_architecture)


@register_model_architecture("b2t_s2t_transformer", "b2t_s2t_transformer_xs")
def b2t_s2t_transformer_xs(args: Namespace) -> None:
    """6-3 layers, 256 wide, FFN 1024, 4 heads, dropout 0.3."""
    _fill(args, stock.s2t_transformer_xs)


@register_model_architecture("b2t_s2t_transformer", "b2t_s2t_transformer_s")
def b2t_s2t_transformer_s(args: Namespace) -> None:
    """12-6 layers, 256 wide, FFN 2048, 4 heads: the size of fairseq's LibriSpeech recipe."""
    _fill(args, stock.s2t_transformer_s)


@register_model_architecture("b2t_s2t_transformer", "b2t_s2t_transformer_m")
def b2t_s2t_transformer_m(args: Namespace) -> None:
    """12-6 layers, 512 wide, FFN 2048, 8 heads, dropout 0.15."""
    _fill(args, stock.s2t_transformer_m)


@register_model_architecture("b2t_s2t_transformer", "b2t_s2t_transformer_l")
def b2t_s2t_transformer_l(args: Namespace) -> None:
    """12-6 layers, 1024 wide, FFN 4096, 16 heads, dropout 0.2."""
    _fill(args, stock.s2t_transformer_l)

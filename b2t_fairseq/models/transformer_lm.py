"""``b2t_transformer_lm``: the decoder-only Transformer with a residual scheme and shared layers, by size."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer_lm import (
    DEFAULT_MAX_TARGET_POSITIONS,
    TransformerLanguageModel,
    base_lm_architecture,
    transformer_lm_baevski_wiki103,
)
from fairseq.modules import AdaptiveInput, CharacterTokenEmbedder
from torch import nn

from ..settings.fields import B2TLanguageModelConfig, add_flags
from ..settings.plan import plan_language_model
from ..settings.validation_lm import character_filters, cutoffs
from ..stacks import Decoder
from .assembly import LoadsCheckpoints, fairseq_settings, initialize_and_tie


@register_model("b2t_transformer_lm", dataclass=B2TLanguageModelConfig)
class B2TLanguageModel(LoadsCheckpoints, TransformerLanguageModel):
    """fairseq's ``transformer_lm`` whose layers follow ``--residual`` and share as ``--layer-sharing`` says.

    Parameter names are fairseq's, so stock Post-LN and Pre-LN checkpoints load.
    """

    @classmethod
    def add_args(cls, parser) -> None:
        """Add the flags to fairseq's parser; defaults are left to the architecture."""
        add_flags(parser, B2TLanguageModelConfig)

    @classmethod
    def build_model(cls, args, task) -> B2TLanguageModel:
        """Validate the settings, build the decoder, initialize, tie.

        Args:
            args: the model's settings: a ``DictConfig``, a ``B2TLanguageModelConfig`` or a flat namespace.
            task: fairseq task with ``source_dictionary`` and ``target_dictionary``.

        Raises:
            InputError: settings that contradict each other.
        """
        plan = plan_language_model(args, len(task.source_dictionary), len(task.target_dictionary))
        args = fairseq_settings(plan)
        if args.max_target_positions is None:
            args.max_target_positions = args.tokens_per_sample or DEFAULT_MAX_TARGET_POSITIONS
        cfg = TransformerConfig.from_namespace(args)
        if cfg.decoder.layers_to_keep:
            cfg.decoder.layers = len(cfg.decoder.layers_to_keep.split(","))
        cfg.checkpoint_activations = cfg.checkpoint_activations or cfg.offload_activations
        embed_tokens = cls.build_input(args, task.source_dictionary)
        model = cls(Decoder(cfg, task.target_dictionary, embed_tokens, no_encoder_attn=True))
        initialize_and_tie(model, plan, [embed_tokens])
        return model

    @classmethod
    def build_input(cls, args: Namespace, dictionary) -> nn.Module:
        """Return the module from tokens, ``(batch, seq_len)``, to their embeddings, with one more dimension."""
        if args.character_embeddings:
            return CharacterTokenEmbedder(
                dictionary,
                character_filters(args),
                args.character_embedding_dim,
                args.decoder_embed_dim,
                args.char_embedder_highway_layers,
            )
        if args.adaptive_input:
            return AdaptiveInput(
                len(dictionary),
                dictionary.pad(),
                args.decoder_input_dim,
                args.adaptive_input_factor,
                args.decoder_embed_dim,
                cutoffs(args, "adaptive_input_cutoff", len(dictionary)),
                args.quant_noise_pq,
                args.quant_noise_pq_block_size,
            )
        return cls.build_embedding(args, dictionary, args.decoder_input_dim)


def _sized_as(stock_architecture: Callable[[Namespace], None], args: Namespace) -> None:
    """Fill in the sizes of a stock architecture, without its norms, which the scheme decides, and its BASE layers."""
    own = {"decoder_normalize_before": False, "no_decoder_final_norm": False, "base_shuffle": 1}
    given = {name: getattr(args, name, default) for name, default in own.items()}
    stock_architecture(args)
    # fairseq calls this with a DictConfig too, which has no vars().
    for name, value in given.items():
        setattr(args, name, value)


@register_model_architecture("b2t_transformer_lm", "b2t_transformer_lm_small")
def b2t_transformer_lm_small(args: Namespace) -> None:
    """4 layers, 256 wide, FFN 1024, 4 heads, one table for input and output: for a CPU."""
    args.decoder_layers = getattr(args, "decoder_layers", 4)
    args.decoder_embed_dim = getattr(args, "decoder_embed_dim", 256)
    args.decoder_ffn_embed_dim = getattr(args, "decoder_ffn_embed_dim", 1024)
    args.decoder_attention_heads = getattr(args, "decoder_attention_heads", 4)
    args.share_decoder_input_output_embed = getattr(args, "share_decoder_input_output_embed", True)
    _sized_as(base_lm_architecture, args)


@register_model_architecture("b2t_transformer_lm", "b2t_transformer_lm_wiki103")
def b2t_transformer_lm_wiki103(args: Namespace) -> None:
    """16 layers, 1024 wide, FFN 4096, 8 heads, adaptive inputs tied to an adaptive softmax; 6 layers make 121M."""
    _sized_as(transformer_lm_baevski_wiki103, args)

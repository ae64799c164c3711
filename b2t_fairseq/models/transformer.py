"""``b2t_transformer``: the encoder-decoder Transformer with a residual scheme and shared layers, by size."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from fairseq.models.transformer.transformer_legacy import (
    base_architecture,
    tiny_architecture,
    transformer_iwslt_de_en,
    transformer_wmt_en_de_big,
)

from .. import hub
from ..settings.fields import B2TTransformerConfig, add_flags
from ..settings.plan import plan_translation
from ..stacks import Decoder, Encoder
from .assembly import LoadsCheckpoints, fairseq_settings, initialize_and_tie


@register_model("b2t_transformer", dataclass=B2TTransformerConfig)
class B2TTransformerModel(LoadsCheckpoints, TransformerModelBase):
    """fairseq's ``transformer`` whose layers follow ``--residual`` and share as ``--layer-sharing`` says.

    Parameter names are fairseq's, so stock Post-LN and Pre-LN checkpoints load.
    """

    @classmethod
    def add_args(cls, parser) -> None:
        """Add the flags to fairseq's parser; defaults are left to the architecture."""
        add_flags(parser, B2TTransformerConfig)

    @classmethod
    def build_model(cls, cfg, task) -> B2TTransformerModel:
        """Validate the settings, build both stacks, initialize, tie.

        Args:
            cfg: the model's settings: a ``DictConfig``, a ``B2TTransformerConfig`` or a flat namespace.
            task: fairseq task with ``source_dictionary`` and ``target_dictionary``.

        Raises:
            InputError: settings that contradict each other.
        """
        plan = plan_translation(cfg)
        model = super().build_model(TransformerConfig.from_namespace(fairseq_settings(plan)), task)
        stacks = (model.encoder, model.decoder)
        drawn = [stack.embed_tokens for stack in stacks if not getattr(plan.settings, f"{stack.name}_embed_path")]
        initialize_and_tie(model, plan, drawn)
        data = getattr(task, "cfg", None)
        model.decoder.attn_in_training = bool(getattr(data, "load_alignments", False))
        model.decoder.causal_hides_padding &= not getattr(data, "left_pad_target", True)
        return model

    @classmethod
    def from_pretrained(cls, model_name_or_path, checkpoint_file=None, data_name_or_path=None, **kwargs):
        """Return a trained model that translates, with its SentencePiece: see :func:`b2t_fairseq.hub.from_pretrained`.

        Args:
            model_name_or_path: the folder of a run, or a checkpoint file.
            checkpoint_file: which checkpoint of the folder (default: the best that is there).
            data_name_or_path: the folder with the dictionaries (default: where the model was trained on).
            **kwargs: settings of the task or of the model, as on the command line.
        """
        return hub.from_pretrained(model_name_or_path, checkpoint_file, data_name_or_path, **kwargs)

    @classmethod
    def build_embedding(cls, cfg, dictionary, embed_dim, path=None):
        """Return an embedding table, ``(symbols, embed_dim)``, read from a file if there is one.

        A checkpoint has the values of the file, so it need not exist any more; a fresh model does not train without it.
        """
        is_there = path is not None and Path(path).is_file()
        return super().build_embedding(cfg, dictionary, embed_dim, path if is_there else None)

    @classmethod
    def build_encoder(cls, cfg, src_dict, embed_tokens) -> Encoder:
        return Encoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens) -> Decoder:
        return Decoder(cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention)


@register_model_architecture("b2t_transformer", "b2t_transformer_tiny")
def b2t_transformer_tiny(args: Namespace) -> None:
    """2-2 layers of width 64, for tests."""
    tiny_architecture(args)


@register_model_architecture("b2t_transformer", "b2t_transformer_iwslt_de_en")
def b2t_transformer_iwslt_de_en(args: Namespace) -> None:
    """6-6 layers, 512 wide, FFN 1024, 4 heads."""
    transformer_iwslt_de_en(args)


@register_model_architecture("b2t_transformer", "b2t_transformer_wmt_en_de")
def b2t_transformer_wmt_en_de(args: Namespace) -> None:
    """6-6 layers, 512 wide, FFN 2048, 8 heads: the base size of both papers."""
    base_architecture(args)


@register_model_architecture("b2t_transformer", "b2t_transformer_wmt_en_de_18l")
def b2t_transformer_wmt_en_de_18l(args: Namespace) -> None:
    """18-18 layers of the base size, the deep model of the B2T paper."""
    args.encoder_layers = getattr(args, "encoder_layers", 18)
    args.decoder_layers = getattr(args, "decoder_layers", 18)
    base_architecture(args)


@register_model_architecture("b2t_transformer", "b2t_transformer_wmt_en_de_big")
def b2t_transformer_wmt_en_de_big(args: Namespace) -> None:
    """6-6 layers, 1024 wide, FFN 4096, 16 heads, dropout 0.3, attention dropout 0.1."""
    transformer_wmt_en_de_big(args)

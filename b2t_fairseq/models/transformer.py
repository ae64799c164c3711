"""``b2t_transformer``: the encoder-decoder Transformer with a residual scheme and shared layers, by size."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Sequence

import torch
from fairseq.checkpoint_utils import prune_state_dict
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from fairseq.models.transformer.transformer_legacy import (
    base_architecture,
    tiny_architecture,
    transformer_iwslt_de_en,
    transformer_wmt_en_de_big,
)
from torch import nn

from .. import hub
from ..config import B2TTransformerConfig, as_namespace
from ..errors import InputError
from ..initialization import by_scheme, scale_by_depth, scale_embeddings
from ..residual import scheme_class
from ..sharing import none, tie_parameters
from ..stacks import Decoder, Encoder, LayerStack
from ..validation import stack_indices, validate

logger = logging.getLogger(__name__)


@register_model("b2t_transformer", dataclass=B2TTransformerConfig)
class B2TTransformerModel(TransformerModelBase):
    """fairseq's ``transformer`` whose layers follow ``--residual`` and share as ``--layer-sharing`` says.

    Parameter names are fairseq's, so stock Post-LN and Pre-LN checkpoints load.
    """

    @classmethod
    def add_args(cls, parser) -> None:
        """Add the flags to fairseq's parser; defaults are left to the architecture."""
        gen_parser_from_dataclass(parser, B2TTransformerConfig(), delete_default=True)

    @classmethod
    def build_model(cls, cfg, task) -> B2TTransformerModel:
        """Validate the settings, build both stacks, initialize, tie.

        Args:
            cfg: the model's settings: a ``DictConfig``, a ``B2TTransformerConfig`` or a flat namespace.
            task: fairseq task with ``source_dictionary`` and ``target_dictionary``.

        Raises:
            InputError: settings that contradict each other.
        """
        args = as_namespace(cfg)
        validate(args)
        args.encoder_normalize_before = args.decoder_normalize_before = scheme_class(args.residual).norm_after_stack
        args.encoder_unpruned_layers, args.decoder_unpruned_layers = args.encoder_layers, args.decoder_layers
        _refuse_offloading_of_tied_layers(args)
        model = super().build_model(TransformerConfig.from_namespace(args), task)
        # tables that were read from a file stay as they are
        stacks = (model.encoder, model.decoder)
        finish(model, args, [stack.embed_tokens for stack in stacks if not getattr(args, f"{stack.stack}_embed_path")])
        model.decoder.attn_in_training = bool(getattr(getattr(task, "cfg", None), "load_alignments", False))
        return model

    def load_state_dict(self, state_dict, strict=True, model_cfg=None, args=None):
        """Load parameters, pruned if ``--encoder-layers-to-keep`` says so and they are not pruned yet.

        fairseq's own pruning forgets which residual scheme the parameters belong to, and drops the flag, so that a
        checkpoint written after fine-tuning a pruned model could not be loaded again.

        Args:
            state_dict: parameters and buffers by name.
            strict: refuse missing and unexpected names.
            model_cfg: the model's settings.
            args: superseded by ``model_cfg``.

        Raises:
            RuntimeError: the parameters do not fit, are of another residual scheme or of another sharing.
        """
        flags = [f"{stack}_layers_to_keep" for stack in ("encoder", "decoder")]
        given = {flag: getattr(model_cfg, flag, None) for flag in flags}
        num_stored = len({name.split(".")[2] for name in state_dict if name.startswith("encoder.layers.")})
        if all(given.values()) and num_stored > len(self.encoder.layers):
            metadata = getattr(state_dict, "_metadata", None)
            state_dict = OrderedDict(prune_state_dict(state_dict, model_cfg))
            state_dict._metadata = metadata
            for flag, value in given.items():
                setattr(model_cfg, flag, value)
        return super().load_state_dict(state_dict, strict)

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
    def build_encoder(cls, cfg, src_dict, embed_tokens) -> Encoder:
        return Encoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens) -> Decoder:
        return Decoder(cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention)


def _refuse_offloading_of_tied_layers(args: Namespace) -> None:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if args.offload_activations and args.layer_sharing != none.__name__ and distributed:
        raise InputError(
            f"--offload-activations with --layer-sharing {args.layer_sharing} cannot train on several devices: the "
            "gradient of a shared parameter would be reduced once for every layer; use --checkpoint-activations"
        )


def finish(model: nn.Module, args: Namespace, tables: Sequence[nn.Module]) -> None:
    """Initialize a model that is built as its settings have it, tie its layers, log what it is.

    Args:
        model: with ``encoder`` and ``decoder``.
        args: its settings.
        tables: its embeddings, as far as they were drawn and not read.
    """
    stacks = (model.encoder, model.decoder)
    for stack in stacks:
        by_scheme(stack.layer_list())
        if args.depth_scaled_init:
            scale_by_depth(stack.layer_list())
    scale_embeddings(tables, scheme_class(args.residual).embedding_gain(args.decoder_layers))
    unshared = sum(parameter.numel() for parameter in model.parameters())
    for stack in stacks:
        stack.indices = stack_indices(args, stack.stack)
        tie_parameters(stack.layer_list(), stack.indices)
    _log(model, args, unshared)


def _log(model: nn.Module, args: Namespace, unshared: int) -> None:
    def sets(stack: LayerStack) -> str:
        return " ".join(map(str, stack.indices))

    logger.info(
        f"--residual {args.residual} --layer-sharing {args.layer_sharing}; parameter sets: encoder "
        f"{sets(model.encoder)}, decoder {sets(model.decoder)}; "
        f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters ({unshared:,} without sharing)"
    )


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

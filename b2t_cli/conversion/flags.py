"""Translates the settings of the releases, flags of fairseq 0.8 and 0.9, into flags of ``b2t_transformer``."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Collection
from typing import Any, get_args

from b2t_common.errors import InputError
from b2t_common.names import flag
from b2t_fairseq.residual import B2T, Admin, B2TNoLN, PostLN, PreLN, ResidualScheme
from b2t_fairseq.settings.fields import B2TTransformerConfig

B2T_FLAG, SHARING_FLAG = "residual_bottom_to_top", "share_params_cross_layer"
_SHARING = ("share_layer_num", "share_type")

_MODEL_FIELDS = [field.name for field in dataclasses.fields(B2TTransformerConfig) if field.name != "_name"]

# without these settings no model can be built
_NEEDED = (
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_embed_dim",
    "encoder_normalize_before",
    "decoder_layers",
    "decoder_attention_heads",
    "decoder_normalize_before",
    "activation_fn",
)

# for each setting the only value that is converted, and what another value would need
_ONLY: dict[str, tuple[Any, str]] = {
    "one_emb": (None, "embeddings made of one vector"),
    "represent_length_by_lrpe": (False, "positions that tell the length"),
    "represent_length_by_ldpe": (False, "positions that tell the length"),
    "ordinary_sinpos": (False, "other position vectors"),
    "no_token_positional_embeddings": (False, "a model without positions"),
    "no_cross_attention": (False, "a decoder without cross-attention"),
    "cross_self_attention": (False, "one attention for both stacks"),
    "layer_wise_attention": (False, "one encoder layer for each decoder layer"),
    "adaptive_input": (False, "adaptive inputs"),
    "adaptive_softmax_cutoff": (None, "an adaptive softmax"),
    "encoder_layers_to_keep": (None, "a pruned model"),
    "decoder_layers_to_keep": (None, "a pruned model"),
}

# settings of training, of the data and of analysis that today's fairseq does not have, and those that are read below
_OTHERS = frozenset(
    {
        "arch",
        "codebooknum",
        "codenum",
        "dec_replace_rate",
        "decay_val",
        "decoder_input_dim",
        "enc_replace_rate",
        "force_anneal",
        "gradient_as_delta",
        "init_type",
        "lazy_load",
        "lr_shrink",
        "max_sentences",
        "max_sentences_valid",
        "min_lr",
        "mixed_precision",
        "no_layer_norm",
        "one_emb_dropout",
        "one_emb_inter_dim",
        "one_emb_layernum",
        "one_emb_relu_dropout",
        "one_emb_std",
        "plot_gradient",
        "plot_stability",
        "plot_variance",
        "raw_text",
        "sampling_method",
        "share_layer_num",
        "share_type",
        "stop_relu_dropout_update",
        "tbmf_wrapper",
    }
)


@dataclasses.dataclass(frozen=True)
class ReleaseFlags:
    """What the settings of a release say about the function of its model.

    Attributes:
        args: all settings as the checkpoint has them.
        settings: flags of ``b2t_transformer`` with the same effect, without those of sharing.
        pre_norm: whether the norms are before the sub-layers.
        b2t: whether there is the B2T connection.
        ratios: whether there are the trained ratios of Admin.
        norms: whether there are LayerNorms.
        sharing: K, the number of layers that share, and the name of the order; ``None`` without sharing.
        notes: sentences for the user.
    """

    args: Namespace
    settings: dict[str, Any]
    pre_norm: bool
    b2t: bool
    ratios: bool
    norms: bool
    sharing: tuple[int, str] | None
    notes: list[str]


def read_flags(args: Namespace) -> ReleaseFlags:
    """Translate the settings of a release.

    Raises:
        InputError: the settings are of neither release, contradict each other, or need what this plugin does not
            support.
    """
    if not hasattr(args, B2T_FLAG) and not hasattr(args, SHARING_FLAG):
        raise InputError(
            f"its settings have neither {flag(B2T_FLAG)} nor {flag(SHARING_FLAG)}, so it is of neither release; "
            "stock fairseq checkpoints need no conversion"
        )
    shares = bool(getattr(args, SHARING_FLAG, False))
    missing = [name for name in (*_NEEDED, *(_SHARING if shares else ())) if not hasattr(args, name)]
    if missing:
        raise InputError(f"its settings lack {', '.join(map(flag, missing))}: not those of a whole checkpoint")
    _refuse_other_types(args)
    _refuse_others(args)
    pre_norm = _pre_norm(args)
    b2t, norms = bool(getattr(args, B2T_FLAG, False)), not getattr(args, "no_layer_norm", False)
    ratios = _ratios(args)
    scheme = _scheme(pre_norm, b2t, ratios, norms)
    taken = {name: getattr(args, name) for name in _MODEL_FIELDS if hasattr(args, name)}
    word_dropout, notes = _word_dropout(args)
    settings = {**taken, **word_dropout, "residual": scheme.name}
    settings["encoder_normalize_before"] = settings["decoder_normalize_before"] = False
    sharing = (args.share_layer_num, args.share_type) if shares else None
    return ReleaseFlags(args, settings, pre_norm, b2t, ratios, norms, sharing, notes)


def unknown_settings(args: Namespace, known: Collection[str]) -> list[str]:
    """Return, as flags, the settings that are in use and that neither today's fairseq nor the releases have.

    Args:
        args: the settings in the checkpoint.
        known: names of the settings of today's fairseq.
    """
    releases = _OTHERS | _ONLY.keys() | {B2T_FLAG, SHARING_FLAG}
    return [
        f"{flag(name)} {value}"
        for name, value in sorted(vars(args).items())
        if value and name not in known and name not in releases
    ]


def _refuse_other_types(args: Namespace) -> None:
    """Refuse settings that must be numbers and are not, as in a checkpoint that is damaged or was made by hand."""
    numbers: dict[str, tuple[Any, ...]] = {"share_layer_num": (int,)} if getattr(args, SHARING_FLAG, False) else {}
    for field in dataclasses.fields(B2TTransformerConfig):
        # Optional[int] has the arguments int and NoneType
        kinds = get_args(field.type) or (field.type,)
        if int in kinds or float in kinds:
            numbers[field.name] = (int, *kinds)
    for name, kinds in numbers.items():
        if hasattr(args, name) and not isinstance(getattr(args, name), kinds):
            raise InputError(f"{flag(name)} {getattr(args, name)!r} is no number, so its settings are damaged")


def _refuse_others(args: Namespace) -> None:
    if getattr(args, "task", "translation") != "translation":
        raise InputError(f"--task {args.task}: only models of the translation task are converted")
    for name, (only, what) in _ONLY.items():
        value = getattr(args, name, only)
        if value != only:
            raise InputError(f"{flag(name)} {value} is not converted: it needs {what}")
    width = args.encoder_embed_dim
    for name in ("decoder_embed_dim", "decoder_input_dim", "decoder_output_dim"):
        if getattr(args, name, width) != width:
            raise InputError(
                f"{flag(name)} {getattr(args, name)} differs from --encoder-embed-dim {width}: only models of one "
                "width are converted"
            )


def _pre_norm(args: Namespace) -> bool:
    encoder, decoder = bool(args.encoder_normalize_before), bool(args.decoder_normalize_before)
    if encoder != decoder:
        names = "encoder_normalize_before", "decoder_normalize_before"
        raise InputError(
            f"{flag(names[not encoder])} without {flag(names[encoder])}: encoder and decoder have different residual "
            "schemes, which this plugin does not support"
        )
    return encoder


def _ratios(args: Namespace) -> bool:
    init_type = getattr(args, "init_type", "default")
    if init_type not in ("default", "adaptive"):
        raise InputError(
            f"--init-type {init_type} is not converted: only default, and adaptive (a trained model of Admin)"
        )
    return init_type == "adaptive"


def _scheme(pre_norm: bool, b2t: bool, ratios: bool, norms: bool) -> type[ResidualScheme]:
    """Return the residual scheme that the settings of the release describe."""
    if pre_norm and (b2t or ratios or not norms):
        other = flag(B2T_FLAG) if b2t else "--init-type adaptive" if ratios else "--no-layer-norm"
        raise InputError(
            f"{other} with --encoder-normalize-before is no published method (the release accepts it silently), and "
            "this plugin has no residual scheme for it"
        )
    if not norms and not b2t:
        raise InputError(
            f"--no-layer-norm without {flag(B2T_FLAG)} is no published method, and this plugin does not support it"
        )
    if b2t:
        return B2T if norms else B2TNoLN
    return Admin if ratios else PreLN if pre_norm else PostLN


def _word_dropout(args: Namespace) -> tuple[dict[str, float], list[str]]:
    """Return the word dropout rates, and notes on features of the training that this plugin does not have."""
    method = getattr(args, "sampling_method", "none")
    rates = [getattr(args, name, 0.0) for name in ("enc_replace_rate", "dec_replace_rate")]
    if method == "worddrop":
        return dict(zip(("encoder_word_dropout", "decoder_word_dropout"), rates, strict=True)), []
    if method != "none" and any(rates):
        return {}, [f"--sampling-method {method} acts in training only; this plugin does not have it"]
    return {}, []

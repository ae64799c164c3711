"""What the releases' settings mean here: fairseq 0.8 and 0.9 flags to those of ``b2t_transformer``."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Collection
from typing import Any, get_args

from b2t_common.errors import InputError
from b2t_common.names import STACKS, flag
from b2t_fairseq.residual import B2T, Admin, B2TNoLN, PostLN, PreLN, ResidualScheme
from b2t_fairseq.settings.fields import B2TTransformerConfig

B2T_FLAG, SHARING_FLAG = "residual_bottom_to_top", "share_params_cross_layer"
_SHARING = ("share_layer_num", "share_type")

_MODEL_FIELDS = [field.name for field in dataclasses.fields(B2TTransformerConfig) if field.name != "_name"]

# without these nothing can be built
_NEEDED = (
    *(f"{stack}_{name}" for stack in STACKS for name in ("layers", "attention_heads")),
    *("encoder_embed_dim", "encoder_normalize_before", "decoder_normalize_before", "activation_fn"),
)

# settings of which only the given value is converted, with what others would need
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

# settings of training, of the data and of analysis that today's fairseq has no more, and those that are read below
_OTHERS = frozenset(
    [
        *("arch", "force_anneal", "lr_shrink", "max_sentences", "max_sentences_valid", "min_lr"),
        *("lazy_load", "raw_text", "init_type", "mixed_precision", "plot_gradient", "plot_stability"),
        *("plot_variance", "gradient_as_delta", "tbmf_wrapper", "decay_val", "sampling_method"),
        *("enc_replace_rate", "dec_replace_rate", "codebooknum", "codenum", "one_emb_dropout"),
        *("one_emb_inter_dim", "one_emb_layernum", "one_emb_relu_dropout", "one_emb_std"),
        *("stop_relu_dropout_update", "decoder_input_dim", "no_layer_norm", "share_layer_num"),
        "share_type",
    ]
)


@dataclasses.dataclass(frozen=True)
class ReleaseFlags:
    """What a release's settings say about its model's function.

    Attributes:
        args: all settings as stored.
        settings: flags of ``b2t_transformer`` with the same effect; sharing is not among them.
        pre_norm: norms before the sub-layers.
        b2t: the B2T connection.
        ratios: trained ratios of Admin.
        norms: false without LayerNorm.
        sharing: K, the number of layers that share, and the name of the order; ``None`` without sharing.
        notes: what the user should know.
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
    """Translate a release's settings.

    Raises:
        InputError: the settings are of neither release, contradict each other, or need what this plugin has not.
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
    """Return the settings that are in use and neither known to today's fairseq nor to the releases, as flags.

    Args:
        args: the settings in the checkpoint.
        known: names of today's fairseq's settings.
    """
    releases = _OTHERS | _ONLY.keys() | {B2T_FLAG, SHARING_FLAG}
    return [
        f"{flag(name)} {value}"
        for name, value in sorted(vars(args).items())
        if value and name not in known and name not in releases
    ]


def _refuse_other_types(args: Namespace) -> None:
    """Refuse what is no number where one belongs, which a damaged or hand-made checkpoint may hold."""
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
            "schemes, which this plugin has not"
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
    """Return the residual scheme that the release's switches amount to."""
    if pre_norm and (b2t or ratios or not norms):
        other = flag(B2T_FLAG) if b2t else "--init-type adaptive" if ratios else "--no-layer-norm"
        raise InputError(
            f"{other} with --encoder-normalize-before is no published method (the release accepts it silently), and "
            "this plugin has no residual scheme for it"
        )
    if not norms and not b2t:
        raise InputError(f"--no-layer-norm without {flag(B2T_FLAG)} is no published method; this plugin has it not")
    if b2t:
        return B2T if norms else B2TNoLN
    return Admin if ratios else PreLN if pre_norm else PostLN


def _word_dropout(args: Namespace) -> tuple[dict[str, float], list[str]]:
    """Return the word dropout rates, and notes on what training had and this plugin has not."""
    method = getattr(args, "sampling_method", "none")
    rates = [getattr(args, name, 0.0) for name in ("enc_replace_rate", "dec_replace_rate")]
    if method == "worddrop":
        return dict(zip(("encoder_word_dropout", "decoder_word_dropout"), rates, strict=True)), []
    if method != "none" and any(rates):
        return {}, [f"--sampling-method {method} acts in training only; this plugin has it not, so it is left out"]
    return {}, []

"""Refuses settings that contradict each other, and those that would be ignored, before anything is built."""

from __future__ import annotations

import ast
from argparse import Namespace
from collections.abc import Mapping, Sequence

from b2t_common.errors import InputError
from b2t_common.names import STACKS, flag, spelled

from ..initialization import DEFAULT, check_embeddings, chosen_initialization
from ..kernels import EXACT
from ..residual import SCHEMES, ResidualScheme, stock_scheme

PROBABILITIES = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "relu_dropout",
    "adaptive_softmax_dropout",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "encoder_word_dropout",
    "decoder_word_dropout",
)

_NORMFORMER = "NormFormer's norms and scales are a layer of their own, apart from the residual scheme"

# flags that fairseq's models accept and then ignore or fail on, with the reason
_UNSUPPORTED = {
    "char_inputs": "fairseq's transformer has no character inputs",
    "export": "it serves TorchScript, which cannot compile layers with a residual scheme",
    "base_layers": "BASE layers bring a residual connection of their own, which no scheme reaches",
    "scale_fc": _NORMFORMER,
    "scale_attn": _NORMFORMER,
    "scale_heads": _NORMFORMER,
    "scale_resids": _NORMFORMER,
}
_UNSUPPORTED_WITH_ENCODER = {
    "adaptive_input": "only language models have adaptive inputs",
    "tie_adaptive_weights": "it ties the adaptive softmax to adaptive inputs, which only language models have",
    "tie_adaptive_proj": "it ties the adaptive softmax to adaptive inputs, which only language models have",
}

# text that fairseq evaluates as Python code
_EVALUATED = (
    "adaptive_input_cutoff",
    "adaptive_softmax_cutoff",
    "character_filters",
    "encoder_xformers_att_config",
    "decoder_xformers_att_config",
)

# flags without effect unless another one is set: (that one, default)
_NEEDS = {
    "adaptive_softmax_dropout": ("adaptive_softmax_cutoff", 0.0),
    "adaptive_softmax_factor": ("adaptive_softmax_cutoff", 4),
    "base_sublayers": ("base_layers", 1),
    "base_shuffle": ("base_layers", 1),
    "quant_noise_pq_block_size": ("quant_noise_pq", 8),
}

# pairs of which fairseq ignores the first
_EXCLUDES = (
    ("merge_src_tgt_embed", "share_all_embeddings"),
    ("encoder_embed_path", "merge_src_tgt_embed"),
    ("decoder_embed_path", "merge_src_tgt_embed"),
    ("encoder_learned_pos", "no_token_positional_embeddings"),
    ("decoder_learned_pos", "no_token_positional_embeddings"),
    ("share_decoder_input_output_embed", "adaptive_softmax_cutoff"),
    ("relu_dropout", "activation_dropout"),
)

# settings whose operations cannot be compiled, or must not be
_NOT_COMPILED = {"kernels": EXACT, "offload_activations": True, "checkpoint_activations": True}


def shown(args: Namespace, name: str) -> str:
    """Return a flag as it was given, with its value unless it is a switch."""
    return spelled(name, getattr(args, name))


def validate(args: Namespace, scheme: type[ResidualScheme], stacks: Sequence[str] = STACKS) -> None:
    """Check a model's settings, but for what only its scheme or its strategy knows.

    Args:
        args: the settings.
        scheme: the residual scheme.
        stacks: which stacks the model has.

    Raises:
        InputError: on the first contradiction; the message quotes the offending values and says what to do.
    """
    for name in PROBABILITIES:
        value = getattr(args, name, 0.0)
        if not 0 <= value < 1:
            raise InputError(f"{flag(name)} {value}: a probability must be at least 0 and below 1")
    for name, reason in {**_UNSUPPORTED, **(_UNSUPPORTED_WITH_ENCODER if "encoder" in stacks else {})}.items():
        if getattr(args, name, None):
            raise InputError(f"{shown(args, name)} is not supported: {reason}; drop the flag")
    for name in _EVALUATED:
        if not _is_literal(getattr(args, name, None)):
            raise InputError(
                f"{shown(args, name)}: neither numbers nor a dictionary, so it is not evaluated; a checkpoint must not "
                "bring code to run"
            )
    refuse_without_effect(args, _NEEDS)
    for name, other in _EXCLUDES:
        if getattr(args, name, None) and getattr(args, other, None):
            raise InputError(f"{flag(name)} has no effect with {flag(other)} {getattr(args, other)}; drop one of them")
    for name, value in _NOT_COMPILED.items():
        if args.compile and getattr(args, name, None) == value:
            raise InputError(f"--compile cannot work with {shown(args, name)}; drop one of them")
    _validate_residual(args, scheme, stacks)
    _validate_initialization(args, scheme)
    _validate_dimensions(args, stacks)


def refuse_without_effect(args: Namespace, needs: Mapping[str, tuple[str, object]]) -> None:
    """Raise InputError if a setting is given that fairseq ignores without another one.

    Args:
        args: the settings.
        needs: of settings the one without which they have no effect, and their default.
    """
    for name, (needed, default) in needs.items():
        if getattr(args, name, default) != default and not getattr(args, needed):
            raise InputError(f"{shown(args, name)} has no effect without {flag(needed)}")


def _is_literal(value: object) -> bool:
    """Whether a setting is no text, or text that spells out numbers, lists and the like."""
    try:
        return not isinstance(value, str) or ast.literal_eval(value) is not None
    except (ValueError, SyntaxError):
        return False


def _validate_residual(args: Namespace, scheme: type[ResidualScheme], stacks: Sequence[str]) -> None:
    for stack in stacks:
        if getattr(args, f"{stack}_normalize_before") and not scheme.norm_after_stack:
            raise InputError(
                f"--{stack}-normalize-before contradicts --residual {args.residual}: the scheme alone says where "
                f"the norms are; drop --{stack}-normalize-before, or choose --residual {stock_scheme(True).name}"
            )
    if args.layernorm_embedding and scheme.norm_of_embedding:
        raise InputError(
            f"--layernorm-embedding has no effect with --residual {args.residual}, which has that norm already; drop it"
        )
    if args.no_decoder_final_norm and not scheme.norm_after_stack:
        raise InputError(
            f"--no-decoder-final-norm has no effect with --residual {args.residual}, whose decoder ends without an "
            f"extra norm; drop the flag, or choose --residual {stock_scheme(True).name}"
        )
    for name in sorted({name for known in SCHEMES.values() for name in known.flags}):
        if getattr(args, name) not in (None, "") and name not in scheme.flags:
            readers = " or ".join(known.name for known in SCHEMES.values() if name in known.flags)
            raise InputError(
                f"{shown(args, name)} has no effect with --residual {args.residual}; drop it, or choose "
                f"--residual {readers}"
            )


def _validate_initialization(args: Namespace, scheme: type[ResidualScheme]) -> None:
    initialization = chosen_initialization(args.init, args.depth_scaled_init)
    if scheme.xavier is not None and initialization.name != DEFAULT:
        given = "--depth-scaled-init" if args.depth_scaled_init else f"--init {args.init}"
        raise InputError(
            f"{given} contradicts --residual {args.residual}, which is an initialization itself; drop {given}"
        )
    if not scheme.norm_of_embedding and not args.layernorm_embedding:
        check_embeddings(initialization, args)


def _validate_dimensions(args: Namespace, stacks: Sequence[str]) -> None:
    for stack in stacks:
        width, heads = getattr(args, f"{stack}_embed_dim"), getattr(args, f"{stack}_attention_heads")
        if heads < 1 or width < 1 or width % heads:
            raise InputError(f"--{stack}-embed-dim {width} is not a multiple of --{stack}-attention-heads {heads}")
    shares_output = args.share_decoder_input_output_embed or getattr(args, "share_all_embeddings", False)
    table = "decoder_embed_dim" if "encoder" in stacks else "decoder_input_dim"
    if shares_output and args.decoder_output_dim != getattr(args, table):
        raise InputError(
            f"--decoder-output-dim {args.decoder_output_dim} differs from {shown(args, table)}, so the output layer "
            "cannot share the decoder's embedding; drop one of the flags"
        )


def validate_pruning(args: Namespace) -> None:
    """Raise InputError if only one of two stacks is pruned, since fairseq would prune the other one to nothing."""
    stacks = {"encoder": args.encoder_layers_to_keep, "decoder": args.decoder_layers_to_keep}
    for stack, other in (("encoder", "decoder"), ("decoder", "encoder")):
        if stacks[stack] and not stacks[other]:
            every_layer = ",".join(map(str, range(getattr(args, f"{other}_layers"))))
            raise InputError(
                f"--{stack}-layers-to-keep {stacks[stack]} without --{other}-layers-to-keep: fairseq would prune the "
                f"{other} to nothing; add --{other}-layers-to-keep {every_layer} to keep all of it"
            )

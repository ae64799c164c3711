"""Refuses a language model's settings that contradict each other or that fairseq would ignore or fail on."""

from __future__ import annotations

import ast
from argparse import Namespace

from .errors import InputError
from .residual import scheme_class
from .validation import flag, shown, validate

# flags without effect unless another one is set: (that one, default)
_NEEDS = {
    "adaptive_input_cutoff": ("adaptive_input", None),
    "adaptive_input_factor": ("adaptive_input", 4),
    "tie_adaptive_weights": ("adaptive_input", False),
    "tie_adaptive_proj": ("tie_adaptive_weights", False),
    "character_filters": (
        "character_embeddings",
        "[(1, 64), (2, 128), (3, 192), (4, 256), (5, 256), (6, 256), (7, 256)]",
    ),
    "character_embedding_dim": ("character_embeddings", 4),
    "char_embedder_highway_layers": ("character_embeddings", 2),
}

# one embedding table for input and output, and embeddings that are no table
_NO_TABLE = ("adaptive_input", "character_embeddings")


def validate_language_model(args: Namespace, num_symbols: int) -> None:
    """Check the settings of a language model.

    Args:
        args: the settings.
        num_symbols: size of the dictionary.

    Raises:
        InputError: on the first contradiction; the message quotes the offending values and says what to do.
    """
    validate(args, ("decoder",))
    for name, (needed, default) in _NEEDS.items():
        if getattr(args, name) != default and not getattr(args, needed):
            raise InputError(f"{shown(args, name)} has no effect without {flag(needed)}")
    if args.adaptive_input and args.character_embeddings:
        raise InputError("--adaptive-input has no effect with --character-embeddings; drop one of them")
    for name in _NO_TABLE:
        if args.share_decoder_input_output_embed and getattr(args, name):
            raise InputError(
                f"--share-decoder-input-output-embed cannot work with {flag(name)}, which has no table of all symbols; "
                "drop it (--tie-adaptive-weights is its like for adaptive inputs)"
            )
    _validate_adaptive(args, num_symbols)
    _validate_characters(args)


def cutoffs(args: Namespace, name: str, num_symbols: int) -> list[int]:
    """Return where the bands of adaptive inputs or an adaptive softmax end, the last one left out if it is the rest.

    fairseq would evaluate the text as Python code, which a checkpoint from a stranger must not have run.

    Args:
        args: the settings.
        name: ``"adaptive_input_cutoff"`` or ``"adaptive_softmax_cutoff"``.
        num_symbols: size of the dictionary.

    Raises:
        InputError: they are no ascending numbers within the dictionary.
    """
    listed = str(getattr(args, name)).strip("[]()").replace(" ", "")
    ends = [int(end) for end in listed.split(",")] if listed.replace(",", "").isdigit() and ",," not in listed else []
    # padding has row 1 of every band
    if not ends or min(end - begin for begin, end in zip([0, *ends], ends, strict=False)) < 2 or ends[-1] > num_symbols:
        raise InputError(
            f"{shown(args, name)}: give ascending numbers of the dictionary's {num_symbols} symbols, as in 20000,60000"
        )
    return ends


def character_filters(args: Namespace) -> list[tuple[int, int]]:
    """Return widths and numbers of the convolutions over characters; unlike fairseq without running any code.

    Raises:
        InputError: the text is no list of pairs.
    """
    try:
        return [(int(width), int(number)) for width, number in ast.literal_eval(args.character_filters)]
    except (ValueError, SyntaxError, TypeError):
        raise InputError(f"{shown(args, 'character_filters')}: give pairs, as in [(1, 64), (2, 128)]") from None


def _validate_adaptive(args: Namespace, num_symbols: int) -> None:
    if args.adaptive_input:
        if not args.adaptive_input_cutoff:
            raise InputError("--adaptive-input needs --adaptive-input-cutoff, as in 20000,60000")
        ends = cutoffs(args, "adaptive_input_cutoff", num_symbols)
        bands = len(ends) + (ends[-1] < num_symbols)
        if args.decoder_input_dim // args.adaptive_input_factor ** (bands - 1) < 1:
            raise InputError(
                f"--adaptive-input-factor {args.adaptive_input_factor} leaves nothing of --decoder-input-dim "
                f"{args.decoder_input_dim} for the last of {bands} bands; give a smaller factor or fewer cutoffs"
            )
    if args.adaptive_softmax_cutoff:
        cutoffs(args, "adaptive_softmax_cutoff", num_symbols)
    if not args.tie_adaptive_weights:
        return
    if not args.adaptive_softmax_cutoff:
        raise InputError("--tie-adaptive-weights has no effect without --adaptive-softmax-cutoff")
    inputs, softmax = (cutoffs(args, f"adaptive_{side}_cutoff", num_symbols) for side in ("input", "softmax"))
    for name, other, equal in (
        ("adaptive_softmax_cutoff", "adaptive_input_cutoff", softmax == inputs),
        ("adaptive_softmax_factor", "adaptive_input_factor", None),
        ("decoder_output_dim", "decoder_input_dim", None),
        ("decoder_output_dim", "decoder_embed_dim", None),
    ):
        if not (getattr(args, name) == getattr(args, other) if equal is None else equal):
            raise InputError(
                f"--tie-adaptive-weights needs {shown(args, name)} and {shown(args, other)} to be the same"
            )


def _validate_characters(args: Namespace) -> None:
    if args.character_embeddings:
        character_filters(args)
        if scheme_class(args.residual).embedding_gain(args.decoder_layers) != 1:
            raise InputError(
                f"--character-embeddings cannot work with --residual {args.residual}, which scales the embedding "
                "table; drop the flag, or choose another scheme"
            )

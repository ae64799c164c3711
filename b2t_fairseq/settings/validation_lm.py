"""Refuses a language model's settings that contradict each other or that fairseq would ignore or fail on."""

from __future__ import annotations

import ast
import itertools
from argparse import Namespace

from b2t_common.errors import InputError
from b2t_common.names import flag

from .validation import refuse_without_effect, shown

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

_SAME_IF_TIED = (
    ("adaptive_softmax_cutoff", "adaptive_input_cutoff"),
    ("adaptive_softmax_factor", "adaptive_input_factor"),
    ("decoder_output_dim", "decoder_input_dim"),
    ("decoder_output_dim", "decoder_embed_dim"),
)

# embeddings that are no table of all symbols, which an output layer could share
_NO_TABLE = ("adaptive_input", "character_embeddings")


def validate_language_model(args: Namespace, num_symbols: int, num_targets: int) -> None:
    """Check what only language models have: adaptive inputs, embeddings of characters.

    Args:
        args: the settings.
        num_symbols: size of the dictionary.
        num_targets: size of that of the output, which ``--output-dictionary-size`` may limit.

    Raises:
        InputError: on the first contradiction; the message quotes the offending values and says what to do.
    """
    refuse_without_effect(args, _NEEDS)
    if args.adaptive_input and args.character_embeddings:
        raise InputError("--adaptive-input has no effect with --character-embeddings; drop one of them")
    for name in _NO_TABLE:
        if args.share_decoder_input_output_embed and getattr(args, name):
            raise InputError(
                f"--share-decoder-input-output-embed cannot work with {flag(name)}, which has no table of all symbols; "
                "drop it (--tie-adaptive-weights is its like for adaptive inputs)"
            )
    _validate_adaptive(args, {"adaptive_input_cutoff": num_symbols, "adaptive_softmax_cutoff": num_targets})
    _validate_characters(args)


def cutoffs(args: Namespace, name: str, num_symbols: int) -> list[int]:
    """Return where the bands of adaptive inputs or an adaptive softmax end; fairseq adds the end of the dictionary.

    Args:
        args: the settings, validated as those of other models are.
        name: ``"adaptive_input_cutoff"`` or ``"adaptive_softmax_cutoff"``.
        num_symbols: size of the dictionary.

    Raises:
        InputError: they are no ascending numbers within the dictionary.
    """
    value = getattr(args, name)
    value = ast.literal_eval(value) if isinstance(value, str) else value
    ends = [value] if isinstance(value, int) else list(value)
    if ends and all(isinstance(end, int) for end in ends):
        bounds = [0, *ends] if num_symbols in ends else [0, *ends, num_symbols]
        # in adaptive inputs row 1 of every band is set to zero, as if it were padding
        smallest = 2 if name.startswith("adaptive_input") else 1
        if min(end - begin for begin, end in itertools.pairwise(bounds)) >= smallest:
            return ends
    raise InputError(
        f"{shown(args, name)}: give ascending numbers of the dictionary's {num_symbols} symbols, as in 20000,60000"
    )


def character_filters(args: Namespace) -> list[tuple[int, int]]:
    """Return widths and numbers of the convolutions over characters.

    Args:
        args: the settings, validated as those of other models are.

    Raises:
        InputError: the text is no list of pairs.
    """
    try:
        return [(int(width), int(number)) for width, number in ast.literal_eval(args.character_filters)]
    except (ValueError, TypeError):
        raise InputError(f"{shown(args, 'character_filters')}: give pairs, as in [(1, 64), (2, 128)]") from None


def _validate_adaptive(args: Namespace, sizes: dict[str, int]) -> None:
    """``sizes``: the number of symbols to which each list of cutoffs refers."""
    if args.adaptive_input:
        if not args.adaptive_input_cutoff:
            raise InputError("--adaptive-input needs --adaptive-input-cutoff, as in 20000,60000")
        num_symbols = sizes["adaptive_input_cutoff"]
        ends = cutoffs(args, "adaptive_input_cutoff", num_symbols)
        bands = len(ends) + (ends[-1] < num_symbols)
        if args.decoder_input_dim // args.adaptive_input_factor ** (bands - 1) < 1:
            raise InputError(
                f"--adaptive-input-factor {args.adaptive_input_factor} leaves nothing of --decoder-input-dim "
                f"{args.decoder_input_dim} for the last of {bands} bands; give a smaller factor or fewer cutoffs"
            )
    if args.adaptive_softmax_cutoff:
        cutoffs(args, "adaptive_softmax_cutoff", sizes["adaptive_softmax_cutoff"])
    if args.tie_adaptive_weights:
        _validate_tied(args, sizes)


def _validate_tied(args: Namespace, sizes: dict[str, int]) -> None:
    if not args.adaptive_softmax_cutoff:
        raise InputError("--tie-adaptive-weights has no effect without --adaptive-softmax-cutoff")

    def value(name: str) -> list[int] | float:
        return cutoffs(args, name, sizes[name]) if name in sizes else getattr(args, name)

    for name, other in _SAME_IF_TIED:
        if value(name) != value(other):
            raise InputError(
                f"--tie-adaptive-weights needs {shown(args, name)} and {shown(args, other)} to be the same"
            )


def _validate_characters(args: Namespace) -> None:
    if args.character_embeddings:
        character_filters(args)

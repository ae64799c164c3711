"""Refuses flags of sharing that contradict each other, or that would have no effect."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence

from b2t_common.errors import InputError
from b2t_common.names import STACKS, flag

from ..normalization import norm_class
from ..residual import ResidualScheme
from ..sharing import ALL_SUBLAYERS, CROSS_ATTENTION, NO_SHARING, SHARE_SUBLAYERS, Sharing, of_stack

# what must be equal in both stacks if their layers are the same
_SAME_IN_BOTH = ("layers", "embed_dim", "ffn_embed_dim", "attention_heads")


def has_cross_attention(args: Namespace, stack: str, stacks: Sequence[str]) -> bool:
    """Return whether the layers of a stack have cross-attention, given all stacks of the model."""
    return stack == "decoder" and len(stacks) == len(STACKS) and not args.no_cross_attention


def has_what_is_shared(args: Namespace, stack: str, stacks: Sequence[str]) -> bool:
    """Return whether a stack has one of the sub-layers that ``--share-sublayers`` names, given all stacks."""
    only_cross_attention = set(SHARE_SUBLAYERS[args.share_sublayers]) == {CROSS_ATTENTION}
    return not only_cross_attention or has_cross_attention(args, stack, stacks)


def validate_sharing(args: Namespace, scheme: type[ResidualScheme], stacks: Sequence[str]) -> None:
    """Check what is shared; the strategies check the numbers of layers.

    Args:
        args: the settings.
        scheme: the residual scheme.
        stacks: which stacks the model has.

    Raises:
        InputError: on the first contradiction; the message quotes both values and says what to do.
    """
    if args.share_sublayers not in SHARE_SUBLAYERS:
        raise InputError(f"--share-sublayers {args.share_sublayers}: choose one of {', '.join(SHARE_SUBLAYERS)}")
    if "/" in args.layer_sharing and len(stacks) == 1:
        raise InputError(
            f"--layer-sharing {args.layer_sharing} is for two stacks, but the model has only a {stacks[0]}; give "
            f"{of_stack(args.layer_sharing, stacks[0])}"
        )
    strategies = {stack: of_stack(args.layer_sharing, stack) for stack in stacks}
    in_common = getattr(args, "share_encoder_decoder", False)
    given = [f"--share-sublayers {args.share_sublayers}"] if args.share_sublayers != ALL_SUBLAYERS else []
    given += [] if args.share_norms else ["--no-share-norms"]
    if given and not in_common and set(strategies.values()) == {NO_SHARING}:
        where = f"--layer-sharing {args.layer_sharing}"
        raise InputError(f"{given[0]} has no effect with {where}, which shares nothing; drop it, or choose a strategy")
    if not args.share_norms and not scheme.has_norms:
        raise InputError(f"--no-share-norms has no effect with --residual {args.residual}, which has no norms; drop it")
    for stack, strategy in strategies.items():
        if not has_what_is_shared(args, stack, stacks):
            nowhere = not has_cross_attention(args, stacks[-1], stacks)
            is_asked = strategy != NO_SHARING and (nowhere or "/" in args.layer_sharing)
            _refuse_without_sublayers(args, stack, is_asked, in_common)


def _refuse_without_sublayers(args: Namespace, stack: str, is_asked: bool, in_common: bool) -> None:
    """Refuse flags that would share sub-layers which a stack does not have."""
    what = f"--share-sublayers {args.share_sublayers}"
    if in_common:
        raise InputError(f"{what} leaves nothing for --share-encoder-decoder to share; drop one of them")
    unique = getattr(args, f"{stack}_unique_layers")
    if unique is not None:
        raise InputError(f"--{stack}-unique-layers {unique} has no effect with {what}: the {stack} has none; drop it")
    if is_asked:
        raise InputError(
            f"--layer-sharing {args.layer_sharing} has no effect in the {stack} with {what}: the {stack} has none; "
            f"give {NO_SHARING} for it, or share another sub-layer"
        )


def validate_stacks_in_common(args: Namespace, sharing: Mapping[str, Sharing]) -> None:
    """Check that each layer of the encoder can be the layer of the decoder at the same depth.

    Raises:
        InputError: the stacks differ; the message quotes both values.
    """
    for name in _SAME_IN_BOTH:
        encoder, decoder = (f"{stack}_{name}" for stack in STACKS)
        if getattr(args, encoder) != getattr(args, decoder):
            raise InputError(
                f"--share-encoder-decoder needs equal stacks, but {flag(encoder)} is {getattr(args, encoder)} and "
                f"{flag(decoder)} is {getattr(args, decoder)}; give both the same value, or drop the flag"
            )
    own = [stack for stack in STACKS if stack not in norm_class(args.norm).stacks]
    if args.share_norms and own:
        raise InputError(
            f"--share-encoder-decoder needs equal stacks, but --norm {args.norm} is not a norm of the {own[0]}; add "
            "--no-share-norms, or choose another norm"
        )
    if len({stack.indices for stack in sharing.values()}) > 1:
        listed = " and ".join(f"{name} {' '.join(map(str, stack.indices))}" for name, stack in sharing.items())
        raise InputError(
            f"--share-encoder-decoder needs the same parameter sets in both stacks, but --layer-sharing "
            f"{args.layer_sharing} gives {listed}; share both stacks in the same way, or drop the flag"
        )

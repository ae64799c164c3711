"""Refuses norms and positions that contradict the other settings of a model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from b2t_common.errors import InputError
from b2t_common.names import flag

from ..normalization import DEFAULT, NORMS, norm_class
from ..positions import POSITIONS, positions_class
from ..residual import ResidualScheme
from .validation import shown


def validate_norm(
    args: Namespace, scheme: type[ResidualScheme], stacks: Sequence[str], defaults: Mapping[str, Any]
) -> None:
    """Check ``--norm`` and the flags of single norms.

    Args:
        args: the settings.
        scheme: the residual scheme.
        stacks: which stacks the model has.
        defaults: the default of every setting.

    Raises:
        InputError: on the first contradiction; the message quotes the offending values and says what to do.
    """
    norm = norm_class(args.norm)
    if not scheme.has_norms and args.norm != DEFAULT:
        raise InputError(
            f"--norm {args.norm} has no effect with --residual {args.residual}, which has no norms; drop --norm, or "
            "choose another scheme"
        )
    if not set(stacks) & set(norm.stacks):
        raise InputError(
            f"--norm {args.norm} is a norm of the {' and the '.join(norm.stacks)} only, and this model has a "
            f"{' and a '.join(stacks)} only; choose one of "
            f"{', '.join(name for name, other in NORMS.items() if set(stacks) & set(other.stacks))}"
        )
    _refuse_flags_of_others(args, "norm", NORMS, args.norm, defaults)
    norm.check(args)


def validate_positions(args: Namespace, stacks: Sequence[str], defaults: Mapping[str, Any]) -> None:
    """Check ``--positions``, the flags of single kinds, and fairseq's own flags for positions.

    Args:
        args: the settings.
        stacks: which stacks the model has.
        defaults: the default of every setting.

    Raises:
        InputError: as of :func:`validate_norm`.
    """
    _refuse_flags_of_others(args, "positions", POSITIONS, args.positions, defaults)
    if args.positions is None:
        return
    kind = positions_class(args.positions)
    if args.no_token_positional_embeddings:
        raise InputError(
            f"--no-token-positional-embeddings contradicts --positions {args.positions}: the model has either no "
            "positions or these; drop one of them"
        )
    for stack in stacks:
        if getattr(args, f"{stack}_learned_pos", False) and not kind.is_learned:
            raise InputError(
                f"--{stack}-learned-pos contradicts --positions {args.positions}: these are not learned; drop one of "
                "them"
            )
    kind.check(args)


def _refuse_flags_of_others(
    args: Namespace, registry: str, entries: Mapping[str, Any], chosen: str | None, defaults: Mapping[str, Any]
) -> None:
    """Raise InputError if a flag is given that only entries of a registry read which are not chosen."""
    flags = {key: (*entry.flags, *getattr(entry, "flags_of_stacks", ())) for key, entry in entries.items()}
    own = flags.get(chosen or "", ())
    for name in sorted({name for names in flags.values() for name in names} - set(own)):
        if getattr(args, name) != defaults[name]:
            readers = " or ".join(key for key, names in flags.items() if name in names)
            given = f"{flag(registry)} {chosen}" if chosen else f"the default of {flag(registry)}"
            raise InputError(
                f"{shown(args, name)} has no effect with {given}; drop it, or choose {flag(registry)} {readers}"
            )

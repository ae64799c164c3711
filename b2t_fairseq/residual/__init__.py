"""Residual schemes: how one sub-layer of a Transformer layer is joined to the residual stream.

A scheme is one class with one line of arithmetic.  To add one, write the class and put it into ``SCHEMES``.  Flags,
error messages, tests and the tables of the documentation read that registry.

Notation: ``x`` is the input of a sub-layer, ``f`` the sub-layer with its dropout (self-attention, cross-attention or
feed-forward), ``norm`` the sub-layer's LayerNorm, ``layer_input`` the input of the whole layer.  All tensors have
shape ``(seq_len, batch, embed_dim)``.
"""

from b2t_common.errors import known

from .contract import LayerPosition, ResidualScheme
from .no_ln import B2TNoLN, ReZero, TFixup
from .post_ln import B2T, Admin, BranchNorm, DeepNorm, Keel, PostLN, SpanNorm
from .pre_ln import DLCL, LNScaling, MixLN, PeriLN, PreLN, SandwichLN, SubLN
from .two_streams import ResiDual

__all__ = [
    "DEFAULT",
    "SCHEMES",
    "Admin",
    "LayerPosition",
    "ResidualScheme",
    "scheme_class",
    "scheme_title",
    "stock_scheme",
]

SCHEMES: dict[str, type[ResidualScheme]] = {
    scheme.name: scheme
    for scheme in (
        PostLN,
        PreLN,
        B2T,
        SpanNorm,
        ResiDual,
        Admin,
        DeepNorm,
        BranchNorm,
        Keel,
        DLCL,
        MixLN,
        LNScaling,
        SandwichLN,
        PeriLN,
        SubLN,
        TFixup,
        ReZero,
        B2TNoLN,
    )
}

DEFAULT = B2T.name
"""The default of ``--residual``."""


def scheme_class(name: str) -> type[ResidualScheme]:
    """Return the class of the scheme ``name``.

    Raises:
        InputError: the name is unknown; the message lists the known ones.
    """
    return known(SCHEMES, name, "--residual", "scheme")


def scheme_title(name: str) -> str:
    """Return what tables and messages call the scheme ``name``; an unknown name, of a later version, as it is."""
    return SCHEMES[name].title if name in SCHEMES else name


def stock_scheme(normalize_before: bool) -> type[ResidualScheme]:
    """Return the scheme of fairseq's own models, which have a flag ``--encoder-normalize-before`` in its place."""
    return PreLN if normalize_before else PostLN

"""Residual schemes: how one sub-layer of a Transformer layer is joined to the residual stream.

A scheme is one class with one line of arithmetic.  To add one, write the class and put it into ``SCHEMES``;
flags, error texts, tests and the README's table read that registry.

Notation: ``x`` is the input of a sub-layer, ``f`` the sub-layer with its dropout (self-attention, cross-attention or
feed-forward), ``norm`` the sub-layer's LayerNorm, ``layer_input`` the input of the whole layer.  All tensors have
shape ``(seq_len, batch, embed_dim)``.
"""

from .contract import LayerPosition, ResidualScheme
from .no_ln import B2TNoLN, ReZero, TFixup
from .post_ln import B2T, Admin, DeepNorm, PostLN
from .pre_ln import DLCL, LNScaling, MixLN, PreLN

__all__ = ["B2T", "SCHEMES", "Admin", "LayerPosition", "PostLN", "PreLN", "ResidualScheme", "scheme_class"]

SCHEMES: dict[str, type[ResidualScheme]] = {
    scheme.name: scheme
    for scheme in (PostLN, PreLN, B2T, Admin, DeepNorm, TFixup, DLCL, MixLN, LNScaling, ReZero, B2TNoLN)
}


def scheme_class(name: str) -> type[ResidualScheme]:
    """Return the class of the scheme ``name``.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in SCHEMES:
        raise ValueError(f"--residual {name}: unknown scheme; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]

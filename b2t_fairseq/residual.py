"""Residual schemes: how one sub-layer of a Transformer layer is joined to the residual stream.

A scheme is one class with one line of arithmetic.  To add one, write the class and put it into ``SCHEMES``;
flags, error texts, tests and the README's table read that registry.

Notation: ``x`` is the input of a sub-layer, ``f`` the sub-layer with its dropout (self-attention, cross-attention or
feed-forward), ``norm`` the sub-layer's LayerNorm, ``layer_input`` the input of the whole layer.  All tensors have
shape ``(seq_len, batch, embed_dim)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

SubLayer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerPosition:
    """Where a layer sits: all that a scheme may depend on besides its inputs.

    Attributes:
        stack: ``"encoder"`` or ``"decoder"``.
        index: depth of the layer in its stack, counted from 0 at the bottom.
        num_layers: number of layers N of that stack.
        embed_dim: width of the residual stream.
    """

    stack: str
    index: int
    num_layers: int
    embed_dim: int


class ResidualScheme:
    """Base of all schemes: one instance per layer, built once with the layer's position."""

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    paper: ClassVar[str]
    norm_after_stack: ClassVar[bool] = False
    """Whether the stack ends with one more LayerNorm (its residual stream is never normalized otherwise)."""

    def __init__(self, position: LayerPosition) -> None:
        self.position = position

    def connect(self, x: Tensor, sublayer: SubLayer, norm: SubLayer, layer_input: Tensor, is_last: bool) -> Tensor:
        """Return the output of one wrapped sub-layer, shape ``(seq_len, batch, embed_dim)``.

        Args:
            x: input of the sub-layer, ``(seq_len, batch, embed_dim)``.
            sublayer: the function f, called exactly once.
            norm: the sub-layer's LayerNorm.
            layer_input: input of the layer's first sub-layer, ``(seq_len, batch, embed_dim)``.
            is_last: whether this is the layer's last sub-layer, the feed-forward one.
        """
        raise NotImplementedError


class PostLN(ResidualScheme):
    """Post-LN, Vaswani et al. 2017 (arXiv 1706.03762), section 3.1; equation (1) and figure 2 (a) of the B2T paper."""

    name = "post_ln"
    title = "Post-LN"
    equation = "LN(x + f(x))"
    paper = "https://arxiv.org/abs/1706.03762"

    def connect(self, x, sublayer, norm, layer_input, is_last):
        return norm(x + sublayer(x))


class PreLN(ResidualScheme):
    """Pre-LN, Wang et al. 2019 (arXiv 1906.01787); equation (2) and figure 2 (b) of the B2T paper."""

    name = "pre_ln"
    title = "Pre-LN"
    equation = "x + f(LN(x))"
    paper = "https://arxiv.org/abs/1906.01787"
    norm_after_stack = True

    def connect(self, x, sublayer, norm, layer_input, is_last):
        return x + sublayer(norm(x))


class B2T(ResidualScheme):
    """Bottom-to-top connection, Takase et al. 2023 (arXiv 2206.00330), figure 2 (c).

    Post-LN whose last norm of a layer also sees the layer's input, so that one path through the layer passes no norm
    but the last.
    """

    name = "b2t"
    title = "B2T"
    equation = "LN(x + f(x)); last sub-layer: LN(layer_input + x + f(x))"
    paper = "https://arxiv.org/abs/2206.00330"

    def connect(self, x, sublayer, norm, layer_input, is_last):
        return norm(layer_input + (x + sublayer(x))) if is_last else norm(x + sublayer(x))


SCHEMES: dict[str, type[ResidualScheme]] = {scheme.name: scheme for scheme in (PostLN, PreLN, B2T)}


def scheme_class(name: str) -> type[ResidualScheme]:
    """Return the class of the scheme ``name``.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in SCHEMES:
        raise ValueError(f"--residual {name}: unknown scheme; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]

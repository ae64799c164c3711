"""What a residual scheme is: how one sub-layer of a Transformer layer is joined to the residual stream."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from fairseq.modules import LayerNorm
from torch import Tensor, nn

SubLayer = Callable[[Tensor], Tensor]
"""A function of tensors of shape ``(seq_len, batch, embed_dim)``: a sub-layer, or its norm."""
Streams = Any
"""A tensor ``(seq_len, batch, embed_dim)``; in a scheme with several residual streams a tuple of such tensors."""

BuildNorm = Callable[[int], nn.Module]
"""A function of a width that builds a norm over that many elements."""

SCORES, VALUES, EMBEDDING = "scores", "values", "embedding"
"""Kinds of initial weights: those of q and k; those of v, out, fc1 and fc2; the embedding tables."""


@dataclass(frozen=True)
class LayerPosition:
    """Where a layer sits: all that a scheme may depend on besides its inputs.

    Attributes:
        stack: ``"encoder"`` or ``"decoder"``.
        index: depth of the layer in its stack, counted from 0 at the bottom.
        num_layers: number of layers N of that stack.
        embed_dim: width of the residual stream.
        num_sublayers: 2, or 3 with cross-attention.
        other_layers: number of layers of the other stack; 0 if there is none, as in a language model.
        build_norm: builds the norms that the scheme adds to those of fairseq's layers.
        settings: the values of the scheme's own ``flags``.
    """

    stack: str
    index: int
    num_layers: int
    embed_dim: int
    num_sublayers: int
    other_layers: int
    build_norm: BuildNorm = LayerNorm
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build_norms(self) -> nn.ModuleList:
        """Return one more norm for each sub-layer of the layer."""
        return nn.ModuleList(self.build_norm(self.embed_dim) for _ in range(self.num_sublayers))


class ResidualScheme(nn.Module):
    """Base of all schemes: one instance per layer, built once with the layer's position.

    A scheme may own parameters and norms.  Its parameters belong to the layer's depth, so shared layers do not share
    them.  Its norms belong to the parameter set, as all other norms of a layer do.

    A scheme must have ``connect`` and the five descriptions, ``name`` to ``when_to_use``.  The rest has defaults: what
    a scheme may ask of its layers and of its stack, so that all of it stands in its class.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    paper: ClassVar[str]
    when_to_use: ClassVar[str]
    """One phrase for the table of schemes."""
    has_norms: ClassVar[bool] = True
    """Whether its layers have LayerNorms; otherwise ``connect`` gets the identity for ``norm``."""
    norm_after_stack: ClassVar[bool] = False
    """Whether one more LayerNorm follows the stack, because its residual stream passes through no norm."""
    norm_of_embedding: ClassVar[bool] = False
    """Whether the embedding passes through a norm before the first layer reads it."""
    norm_inside: ClassVar[bool] = False
    """Whether self-attention and feed-forward sub-layers have one more norm before their last linear map."""
    num_streams: ClassVar[int] = 1
    """How many residual streams go up the stack.  All of them start as the input of the stack."""
    stack_input: ClassVar[Any] = None
    """The function of ``(depth, embed_dim, build_norm)`` that builds the module from which a layer, and at depth N what
    follows the stack, reads its input.  That module is called as ``module(x, history)`` with the output of the layer
    below and a list in which it may keep what the modules above need.  ``None``: the input is the output of the layer
    below."""
    xavier: ClassVar[Any] = None
    """The function of ``(weight, gain)`` that draws the initial weights of the layers; ``None``: fairseq's own
    initialization."""
    made_anew: ClassVar[tuple[str, ...]] = ()
    """Parameters and buffers that ``b2t grow`` does not copy, because they were measured for one depth."""
    flags: ClassVar[tuple[str, ...]] = ()
    """Settings of the model that no other scheme reads."""

    def __init__(self, position: LayerPosition) -> None:
        super().__init__()
        self.position = position

    @property
    def unshared_parameters(self) -> list[str]:
        return [name for name, _ in self.named_parameters(recurse=False)]

    @classmethod
    def check(cls, settings: Namespace, stack: str) -> None:
        """Check that the scheme can work with the settings of a stack.

        Args:
            settings: the model's settings.
            stack: ``"encoder"`` or ``"decoder"``.

        Raises:
            InputError: it cannot; the message quotes the values and says what to do.
        """

    def is_last(self, index: int) -> bool:
        """Return whether ``index`` is that of the layer's last sub-layer, the feed-forward one."""
        return index == self.position.num_sublayers - 1

    def connect(self, x: Streams, f: SubLayer, norm: SubLayer, layer_input: Streams, index: int) -> Streams:
        """Return the output of one wrapped sub-layer, shape ``(seq_len, batch, embed_dim)``.

        With several residual streams ``x``, ``layer_input`` and the output are tuples of such tensors; analyses look at
        the first one.

        Args:
            x: input of the sub-layer, ``(seq_len, batch, embed_dim)``.
            f: the sub-layer with its dropout, called exactly once.
            norm: the sub-layer's LayerNorm.
            layer_input: input of the layer's first sub-layer, ``(seq_len, batch, embed_dim)``.
            index: number of the sub-layer in its layer, from 0.
        """
        raise NotImplementedError

    @classmethod
    def stack_output(cls, x: Streams, norm: SubLayer) -> Tensor:
        """Return what leaves the stack, ``(seq_len, batch, embed_dim)``.

        Args:
            x: output of the last layer, ``(seq_len, batch, embed_dim)``.
            norm: the norm after the stack, the identity if there is none.
        """
        return norm(x)

    def gain(self, weights: str) -> float:
        """Return the gain of ``xavier`` for ``SCORES`` and ``VALUES``, and the factor of the ``EMBEDDING`` tables.

        The factor of the embedding tables is that of the topmost decoder layer.
        """
        return 1.0


def join_streams(x: Streams) -> Tensor:
    """Return several streams as one tensor, ``(num_streams, seq_len, batch, embed_dim)``, and one stream as it is.

    Layers take and return one tensor, so that whatever wraps a layer needs to know nothing of streams.
    """
    return x if isinstance(x, Tensor) else torch.stack(x)


def split_streams(x: Tensor, num_streams: int) -> Streams:
    """Return the streams that :func:`join_streams` has made one tensor of."""
    return x if num_streams == 1 else x.unbind()


Connect = Callable[[Streams, SubLayer, SubLayer, Streams, int], Streams]
"""The type of a bound :meth:`ResidualScheme.connect`."""
Observer = Callable[[Any, Connect], Connect]


@contextmanager
def observing(schemes: Iterable[ResidualScheme], observer: Observer) -> Iterator[None]:
    """Let an observer stand between layers and their schemes.

    Args:
        schemes: those of the layers to observe.
        observer: called with each scheme and its own ``connect``; returns the function that is called instead.
    """
    schemes = list(schemes)
    try:
        for scheme in schemes:
            # An attribute of the instance hides the method of the class.
            vars(scheme)["connect"] = observer(scheme, scheme.connect)
        yield
    finally:
        for scheme in schemes:
            vars(scheme).pop("connect", None)

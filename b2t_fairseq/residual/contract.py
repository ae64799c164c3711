"""What a residual scheme is: how one sub-layer of a Transformer layer is joined to the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

SubLayer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerPosition:
    """Where a layer sits: all that a scheme may depend on besides its inputs.

    Attributes:
        stack: ``"encoder"`` or ``"decoder"``.
        index: depth of the layer in its stack, counted from 0 at the bottom.
        num_layers: number of layers N of that stack.
        embed_dim: width of the residual stream.
        num_sublayers: 2, or 3 with cross-attention.
        other_layers: number of layers of the other stack; 0 without one, in a language model.
    """

    stack: str
    index: int
    num_layers: int
    embed_dim: int
    num_sublayers: int
    other_layers: int


class ResidualScheme(nn.Module):
    """Base of all schemes: one instance per layer, built once with the layer's position.

    A scheme may own parameters.  They belong to the layer's depth, so shared layers do not share them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    paper: ClassVar[str]
    choose: ClassVar[str]
    """When to choose it, for the README's table."""
    has_norms: ClassVar[bool] = True
    """Whether its layers have LayerNorms; ``connect`` gets an identity for ``norm`` otherwise."""
    norm_after_stack: ClassVar[bool] = False
    """Whether the stack ends with one more LayerNorm (its residual stream is never normalized otherwise)."""
    min_layers: ClassVar[int] = 1
    """The depth from which it differs from another scheme."""
    stack_input: ClassVar[Callable[[int, int], nn.Module] | None] = None
    """Module of ``(depth, embed_dim)`` from which a layer, and what follows the stack, reads its input if that is not
    simply the output of the layer below: called as ``module(x, history)`` with that output and a list in which it may
    keep what the modules above it need."""
    xavier: ClassVar[Callable[[Tensor, float], Tensor] | None] = None
    """Initialization of the layers' weights, given a gain; ``None``: fairseq's own."""
    needs_profile: ClassVar[bool] = False
    """Whether its parameters come from the activations of the first batch; see :mod:`b2t_fairseq.profiling`."""

    def __init__(self, position: LayerPosition) -> None:
        super().__init__()
        self.position = position

    @property
    def unshared_parameters(self) -> list[str]:
        return [name for name, _ in self.named_parameters()]

    def connect(
        self, x: Tensor, sublayer: SubLayer, norm: SubLayer, layer_input: Tensor, is_last: bool, index: int
    ) -> Tensor:
        """Return the output of one wrapped sub-layer, shape ``(seq_len, batch, embed_dim)``.

        Args:
            x: input of the sub-layer, ``(seq_len, batch, embed_dim)``.
            sublayer: the function f, called exactly once.
            norm: the sub-layer's LayerNorm.
            layer_input: input of the layer's first sub-layer, ``(seq_len, batch, embed_dim)``.
            is_last: whether this is the layer's last sub-layer, the feed-forward one.
            index: number of the sub-layer in its layer, from 0.
        """
        raise NotImplementedError

    def gain(self) -> float:
        """Return the gain of ``xavier`` for the weights that carry values: v, out, fc1, fc2; q and k have 1."""
        return 1.0

    @classmethod
    def embedding_gain(cls, num_layers: int) -> float:
        """Return the factor of the initial embeddings, given the number of decoder layers."""
        return 1.0

"""What a norm is: a function of the vectors of tokens, one class for each kind."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, ClassVar

from torch import Tensor, nn

EPSILON = 1e-5
"""What is added to mean squares, as in fairseq's LayerNorm."""


class Norm(nn.Module):
    """Base of all norms: a function of tensors of shape ``(seq_len, batch, dim)``.

    Args:
        dim: length of the vectors to normalize.

    Attributes:
        padding_mask: true at padding, in the shape of an input without its last dimension; ``None``: no padding.  Only
            norms that need it are told.
    """

    padding_mask: Tensor | None = None

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    paper: ClassVar[str]
    when_to_use: ClassVar[str]
    """One phrase for the table of norms."""
    stacks: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    """The stacks that have this norm; the others have the default one."""
    needs_padding: ClassVar[bool] = False
    """Whether it has to know where its input is padded, as its ``padding_mask`` says."""
    is_compilable: ClassVar[bool] = True
    """Whether ``--compile`` compiles it together with its layer."""
    flags: ClassVar[tuple[str, ...]] = ()
    """Settings of the model that no other norm reads; they are keyword arguments of the class."""
    flags_of_stacks: ClassVar[tuple[str, ...]] = ()
    """Settings of the model that go with this norm only, but are not its own."""

    @classmethod
    def build(cls, dim: int, heads: int, **settings: Any) -> nn.Module:
        """Return a new norm.

        Args:
            dim: length of the vectors to normalize.
            heads: number of attention heads of the stack.
            **settings: the values of ``flags``.
        """
        return cls(dim, **settings)

    @classmethod
    def check(cls, settings: Namespace) -> None:
        """Check that the norm can work with the settings of a model.

        Raises:
            InputError: it cannot; the message quotes the values and says what to do.
        """


def padded_norms(module: nn.Module) -> list[Norm]:
    """Return the norms within a module that have to know where its input is padded."""
    return [norm for norm in module.modules() if isinstance(norm, Norm) and norm.needs_padding]

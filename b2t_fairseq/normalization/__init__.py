"""Norms: what stands where the Transformer has layer normalization.

A norm is one class with one line of arithmetic.  To add one, write the class and put it into ``NORMS``.  Flags, error
messages, tests and the tables of the documentation read that registry.

All norms of a model follow ``--norm``: those of its layers, of its embeddings, after its stacks, and those that a
residual scheme adds.  Notation: ``x`` is the vector of one token, ``d`` its length, ``mean`` the mean of its elements.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from torch import nn

from b2t_common.errors import known

from .contract import EPSILON, Norm, padded_norms
from .power_norm import PowerNorm, finish_update, with_running_values
from .stateless import DynamicTanh, LayerNorm, RMSNorm, ScaleNorm

__all__ = [
    "BUFFERS",
    "DEFAULT",
    "EPSILON",
    "NORMS",
    "DynamicTanh",
    "Norm",
    "NormBuilder",
    "PowerNorm",
    "RMSNorm",
    "ScaleNorm",
    "finish_update",
    "norm_builder",
    "norm_class",
    "padded_norms",
    "with_running_values",
]

NORMS: dict[str, type[Norm]] = {norm.name: norm for norm in (LayerNorm, RMSNorm, PowerNorm, DynamicTanh, ScaleNorm)}

DEFAULT = LayerNorm.name
"""The default of ``--norm``."""

BUFFERS = frozenset({"mean_square", "mean_gradient"})
"""Names of what norms store beside their parameters."""


@dataclass(frozen=True)
class NormBuilder:
    """Builds the norms of one stack.

    Attributes:
        norm: their class.
        heads: number of attention heads of the stack.
        settings: names and values of the norm's own flags.
    """

    norm: type[Norm] = LayerNorm
    heads: int = 1
    settings: tuple[tuple[str, Any], ...] = ()

    def __call__(self, dim: int) -> nn.Module:
        """Return a norm of vectors of the length ``dim``."""
        return self.norm.build(dim, self.heads, **dict(self.settings))


def norm_class(name: str) -> type[Norm]:
    """Return the class of the norm ``name``.

    Raises:
        InputError: the name is unknown; the message lists the known ones.
    """
    return known(NORMS, name, "--norm", "norm")


def norm_builder(settings: Namespace, stack: str) -> NormBuilder:
    """Return what builds the norms of ``"encoder"`` or ``"decoder"``, from the settings of a model."""
    norm = norm_class(settings.norm)
    norm = norm if stack in norm.stacks else NORMS[DEFAULT]
    own = tuple((name, getattr(settings, name)) for name in norm.flags)
    return NormBuilder(norm, getattr(settings, f"{stack}_attention_heads"), own)

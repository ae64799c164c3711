"""Initializations that differ from fairseq's: the only code that rewrites weights after construction.

All of it must run before parameters are tied, so that a shared weight is drawn or scaled once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .residual import ResidualScheme

_ATTENTION_SCORES = ("q_proj", "k_proj")


@torch.no_grad()
def scale_by_depth(layers: Sequence[nn.Module]) -> None:
    """Multiply every weight of the N layers of a stack by N**-0.5, norms and biases left alone.

    This is the initialization behind the B2T release's 27.52 BLEU (in its code since May 2023); it is independent of
    the residual scheme.
    """
    factor = len(layers) ** -0.5
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(factor)


def by_scheme(layers: Sequence[nn.Module]) -> None:
    """Draw the weights of the layers as their residual scheme has it, if it does; biases are left alone."""
    for layer in layers:
        scheme: ResidualScheme = layer.residual
        if scheme.xavier is None:
            continue
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear):
                scheme.xavier(module.weight, 1.0 if name.endswith(_ATTENTION_SCORES) else scheme.gain())


@torch.no_grad()
def scale_embeddings(modules: Sequence[nn.Module], factor: float) -> None:
    """Multiply every embedding table in ``modules`` by ``factor``, once if several of them use it."""
    tables = {id(e.weight): e.weight for module in modules for e in module.modules() if isinstance(e, nn.Embedding)}
    for table in tables.values():
        table.mul_(factor)

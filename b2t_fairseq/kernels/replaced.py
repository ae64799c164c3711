"""Linear layers whose weights are kept in fewer bits, in the place of a model's own, for translation on a CPU.

What replaces them has no parameters, and everything between the products remains float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from .linear import is_plain


class ReplacedLinear(nn.Module):
    """``x W^T + b`` with ``W`` in fewer bits.

    Each class is made from what its :meth:`unpacked` returns, tensors whose first dimension is ``out_dim``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._joined: dict[tuple[int, ...], Any] = {}
        # Kept where rows are asked for again and again.
        self._unpacked: tuple[Tensor, ...] | None = None

    def unpacked(self) -> tuple[Tensor, ...]:
        """Return what the layer was made from; no bias is zero."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        # What PyTorch has packed cannot be copied or stored itself.
        return type(self), self.unpacked()

    def joined(self, others: Sequence[Any]) -> Any:
        """Return one layer whose outputs are those of this and of other layers, ``(..., sum of out_dim)``."""
        key = tuple(map(id, others))
        if key not in self._joined:
            parts = [layer.unpacked() for layer in (self, *others)]
            self._joined[key] = type(self)(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        return self._joined[key]

    def rows(self, places: Tensor) -> Any:
        """Return a layer that computes some of the outputs, given their places, ``(n,)``; each is the same number."""
        if self._unpacked is None:
            self._unpacked = self.unpacked()
        return type(self)(*(tensor[places] for tensor in self._unpacked))


def replace_linear_layers(model: nn.Module, replacement: Callable[[Any], ReplacedLinear]) -> tuple[int, int]:
    """Replace the linear layers of a model in place; return how many there were, and how many different weights.

    Layers that share parameters share what replaces them.  What is no plain linear layer, such as an embedding, a
    convolution or the tied parts of an adaptive softmax, stays as it is.

    Args:
        model: the model.
        replacement: returns what computes the same as a linear layer.
    """
    made: dict[tuple[int, int], tuple[ReplacedLinear, nn.Module]] = {}
    replaced = 0
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            norm = _norm_of_input(module)
            if is_plain(module) or norm is not None:
                key = (id(module.weight), id(module.bias))
                if key not in made:
                    # The layer is kept, because another one could get its number otherwise.
                    made[key] = replacement(module), module
                new = made[key][0]
                setattr(parent, name, new if norm is None else nn.Sequential(norm, new))
                replaced += 1
        if isinstance(parent, MultiheadAttention):
            # fairseq's attention then calls its projections, where it would read their weights otherwise.
            parent.skip_embed_dim_check = True
    return replaced, len(made)


def _norm_of_input(module: nn.Module) -> nn.Module | None:
    """Return the norm of a linear layer that normalizes its input and does nothing more, otherwise ``None``."""
    norm = getattr(module, "norm", None)
    has_hooks = module._forward_pre_hooks or module._forward_hooks
    return norm if isinstance(module, nn.Linear) and isinstance(norm, nn.Module) and not has_hooks else None

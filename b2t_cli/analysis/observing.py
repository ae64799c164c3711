"""What happens at each position of each layer in forward and backward passes over real batches.

All numbers are sums over tokens; padding is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from b2t_fairseq.layer_stack import LayerStack, layer_stacks
from b2t_fairseq.layers import EncoderLayer
from b2t_fairseq.residual import ResidualScheme
from b2t_fairseq.residual.contract import Connect, SubLayer, observing

from .positions import AFTER_NORM, BEFORE_NORM, INPUT, OUTPUT


@dataclass
class Position:
    """One position in a layer.

    Attributes:
        where: ``INPUT``, ``BEFORE_NORM``, ``AFTER_NORM`` or ``OUTPUT``; ``INPUT`` also of a sub-layer without a norm.
        sublayer: the sub-layer that it belongs to.
        squares: sum over tokens of the squared norm of the gradient of the summed loss.
    """

    where: str
    sublayer: str
    squares: float = 0.0


@dataclass
class LayerSums:
    """Sums over tokens for one layer.

    Attributes:
        positions: from the bottom to the top.
        tokens: how many.
        angle: between a token's vectors before and after the layer, radians.
        change: norm of their difference by the norm of the first.
        input_variance, variance: over the elements of a token's vector, before and after the layer.
    """

    positions: list[Position] = field(default_factory=list)
    tokens: int = 0
    angle: float = 0.0
    change: float = 0.0
    input_variance: float = 0.0
    variance: float = 0.0


class Observer:
    """Adds up what happens in the layers of a model while :meth:`observing`.

    Args:
        model: an encoder-decoder or decoder-only model of this plugin, in evaluation mode.

    Attributes:
        layers: for each stack by name the sums of each layer, bottom first.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stacks: dict[str, LayerStack] = {stack.name: stack for stack in layer_stacks(model)}
        self.layers = {name: [LayerSums() for _ in stack.layer_list()] for name, stack in self.stacks.items()}
        self._is_token: dict[str, Tensor] = {}

    @contextmanager
    def observing(self, target_is_token: Tensor) -> Iterator[None]:
        """Observe one forward pass and its backward pass.

        Args:
            target_is_token: false at padding, ``(batch, tgt_len)``.
        """
        # the encoder's own padding is known only when it runs
        self._is_token = {name: target_is_token.t() for name in self.stacks if name != "encoder"}
        with ExitStack() as observed:
            for name, stack in self.stacks.items():
                for layer, sums in zip(stack.layer_list(), self.layers[name], strict=True):
                    if isinstance(layer, EncoderLayer):
                        handle = layer.register_forward_pre_hook(self._see_padding, with_kwargs=True)
                        observed.callback(handle.remove)
                    observed.enter_context(observing([layer.residual], self._observer(layer, sums, name)))
            yield

    def _see_padding(self, layer: nn.Module, args: tuple, kwargs: dict) -> None:
        given = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
        x, mask = given["x"], given["encoder_padding_mask"]
        self._is_token["encoder"] = torch.ones_like(x[..., 0], dtype=torch.bool) if mask is None else ~mask.t()

    def _observer(self, layer: nn.Module, sums: LayerSums, stack: str) -> Callable[[ResidualScheme, Connect], Connect]:
        """Return an observer of a layer's scheme that adds to ``sums``."""
        names = _sublayers(layer)
        seen: list[Tensor] = []

        def see(tensor: Tensor, where: str, sublayer: str) -> None:
            # The output of one norm may be the input of the next sub-layer, or of the next norm.
            if any(tensor is other for other in seen):
                return
            seen.append(tensor)
            if len(seen) > len(sums.positions):
                sums.positions.append(Position(where, sublayer))
            if tensor.requires_grad:
                tensor.register_hook(_adding_to(sums.positions[len(seen) - 1], self._is_token[stack]))

        def observer(scheme: ResidualScheme, connect: Connect) -> Connect:
            def see_and_connect(x: Tensor, f: SubLayer, norm: SubLayer, layer_input: Tensor, index: int) -> Tensor:
                def seen_norm(y: Tensor) -> Tensor:
                    see(y, BEFORE_NORM, names[index])
                    normalized = norm(y)
                    see(normalized, AFTER_NORM, names[index])
                    return normalized

                if index == 0:
                    seen.clear()
                if index == 0 or not scheme.has_norms:
                    see(x, INPUT, names[index])
                output = connect(x, f, seen_norm, layer_input, index)
                if scheme.is_last(index):
                    see(output, OUTPUT, names[index])
                    _compare(layer_input, output, self._is_token[stack], sums)
                    seen.clear()
                return output

            return see_and_connect

        return observer


def _sublayers(layer: nn.Module) -> list[str]:
    attention = ["self-attention"]
    if getattr(layer, "encoder_attn", None) is not None:
        attention.append("cross-attention")
    return [*attention, "feed-forward"]


def _adding_to(position: Position, is_token: Tensor) -> Callable[[Tensor], None]:
    def add(gradient: Tensor) -> None:
        # in float64, since the square of a gradient that vanishes is less than what float32 can hold
        position.squares += gradient[is_token].double().square().sum().item()

    return add


@torch.no_grad()
def _compare(before: Tensor, after: Tensor, is_token: Tensor, sums: LayerSums) -> None:
    """Add the change from the input of a layer to its output, both ``(seq_len, batch, embed_dim)``."""
    before, after = before[is_token].double(), after[is_token].double()
    sums.tokens += len(before)
    sums.change += _ratio((after - before).norm(dim=-1), before.norm(dim=-1)).sum().item()
    ends = [_ratio(x, x.norm(dim=-1, keepdim=True)) for x in (before, after)]
    # exact for small angles too, as the arc cosine is not
    halves = torch.atan2((ends[0] - ends[1]).norm(dim=-1), (ends[0] + ends[1]).norm(dim=-1))
    sums.angle += 2 * halves.sum().item()
    sums.input_variance += before.var(dim=-1, unbiased=False).sum().item()
    sums.variance += after.var(dim=-1, unbiased=False).sum().item()


def _ratio(x: Tensor, y: Tensor) -> Tensor:
    return x / y.clamp_min(torch.finfo(y.dtype).tiny)

"""Observes every position of every layer during forward and backward passes.

All numbers are sums over tokens, without padding.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from b2t_fairseq.layer_stack import LayerStack, layer_stacks
from b2t_fairseq.layers import EncoderLayer
from b2t_fairseq.residual import ResidualScheme
from b2t_fairseq.residual.contract import Connect, Streams, SubLayer, observing

from .positions import AFTER_NORM, BEFORE_NORM, INPUT, OUTPUT


@dataclass
class Position:
    """One position in a layer.

    Attributes:
        where: ``INPUT``, ``BEFORE_NORM``, ``AFTER_NORM`` or ``OUTPUT``.
        sublayer: the sub-layer to which it belongs.
        squares: sum over tokens of the squared norm of the gradient of the summed loss.
    """

    where: str
    sublayer: str
    squares: float = 0.0


@dataclass
class LayerSums:
    """Sums over tokens for one layer.

    Attributes:
        positions: the positions in the layer, from the bottom to the top.
        tokens: the number of tokens.
        angle: between the vectors of a token before and after the layer, in radians.
        change: the norm of the difference of these vectors, divided by the norm of the first one.
        input_variance, variance: over the elements of the vector of a token before and after the layer.
    """

    positions: list[Position] = field(default_factory=list)
    tokens: int = 0
    angle: float = 0.0
    change: float = 0.0
    input_variance: float = 0.0
    variance: float = 0.0


class Observer:
    """Sums up what happens in the layers of a model while :meth:`observing`.

    Args:
        model: an encoder-decoder or decoder-only model of this plugin, in evaluation mode.

    Attributes:
        stacks: the stacks of the model by name.
        layers: the sums of each layer, bottom layer first, by the name of the stack.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stacks: dict[str, LayerStack] = {stack.name: stack for stack in layer_stacks(model)}
        self.layers = {name: [LayerSums() for _ in stack.layer_list()] for name, stack in self.stacks.items()}
        self._is_token: dict[str, Tensor] = {}

    @contextmanager
    def observing(self, target_is_token: Tensor) -> Iterator[None]:
        """Observe one forward pass and its backward pass.

        Args:
            target_is_token: ``(batch, tgt_len)``, false at padding.
        """
        # the encoder's own padding is known only when it runs
        self._is_token = {name: target_is_token.t() for name in self.stacks if name != "encoder"}
        with ExitStack() as observed:
            for name, stack in self.stacks.items():
                for layer, sums in zip(stack.layer_list(), self.layers[name], strict=True):
                    if isinstance(layer, EncoderLayer):
                        handle = layer.register_forward_pre_hook(self._see_padding, with_kwargs=True)
                        observed.callback(handle.remove)
                    observer = _LayerObserver(layer, sums, functools.partial(self._is_token.__getitem__, name))
                    observed.enter_context(observing([layer.residual], observer))
            yield

    def _see_padding(self, layer: nn.Module, args: tuple, kwargs: dict) -> None:
        given = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
        x, mask = given["x"], given["encoder_padding_mask"]
        # Several residual streams come as one tensor with one dimension more, the first.
        every = torch.ones(x.shape[-3:-1], dtype=torch.bool, device=x.device)
        self._is_token["encoder"] = every if mask is None else ~mask.t()


class _LayerObserver:
    """Adds what happens in one layer to its sums, each time that the layer runs.

    Args:
        layer: the layer.
        sums: the sums.
        is_token: returns which positions of the batch are no padding, ``(seq_len, batch)``.
    """

    def __init__(self, layer: nn.Module, sums: LayerSums, is_token: Callable[[], Tensor]) -> None:
        self._sublayers = _sublayers(layer)
        self._sums = sums
        self._is_token = is_token
        self._seen: list[tuple[Tensor, ...]] = []

    def __call__(self, scheme: ResidualScheme, connect: Connect) -> Connect:
        """Return the ``connect`` of the layer's scheme that also observes."""

        def observed(x: Streams, f: SubLayer, norm: SubLayer, layer_input: Streams, index: int) -> Streams:
            def observed_norm(y: Tensor) -> Tensor:
                self._see((y,), BEFORE_NORM, index)
                normalized = norm(y)
                self._see((normalized,), AFTER_NORM, index)
                return normalized

            if index == 0:
                self._seen.clear()
            if index == 0 or not scheme.has_norms:
                self._see(_streams(x), INPUT, index)
            output = connect(x, f, observed_norm, layer_input, index)
            if scheme.is_last(index):
                self._see(_streams(output), OUTPUT, index)
                _compare(_streams(layer_input)[0], _streams(output)[0], self._is_token(), self._sums)
                self._seen.clear()
            return output

        return observed

    def _see(self, streams: tuple[Tensor, ...], where: str, sublayer: int) -> None:
        """Measure the gradient at a tensor, ``(seq_len, batch, embed_dim)``, in the backward pass.

        At the ends of a layer with several residual streams it is the sum of their gradients: the gradient for
        something that is added to all of them, as the output of a sub-layer is.
        """
        # the output of one norm may be the input of the next sub-layer, or of the next norm
        if any(len(streams) == len(other) and streams[0] is other[0] for other in self._seen):
            return
        self._seen.append(streams)
        positions = self._sums.positions
        if len(self._seen) > len(positions):
            positions.append(Position(where, self._sublayers[sublayer]))
        if all(stream.requires_grad for stream in streams):
            add = _adding_to(positions[len(self._seen) - 1], self._is_token(), len(streams))
            for stream in streams:
                stream.register_hook(add)


def _sublayers(layer: nn.Module) -> list[str]:
    attention = ["self-attention"]
    if getattr(layer, "encoder_attn", None) is not None:
        attention.append("cross-attention")
    return [*attention, "feed-forward"]


def _streams(x: Streams) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _adding_to(position: Position, is_token: Tensor, num_streams: int) -> Callable[[Tensor], None]:
    gradients: list[Tensor] = []

    def add(gradient: Tensor) -> None:
        # in float64, because float32 cannot hold the square of a vanishing gradient
        gradients.append(gradient[is_token].double())
        if len(gradients) == num_streams:
            position.squares += torch.stack(gradients).sum(dim=0).square().sum().item()
            gradients.clear()

    return add


@torch.no_grad()
def _compare(before: Tensor, after: Tensor, is_token: Tensor, sums: LayerSums) -> None:
    """Add how the output of a layer differs from its input, both ``(seq_len, batch, embed_dim)``, to the sums."""
    before, after = before[is_token].double(), after[is_token].double()  # (tokens, embed_dim)
    sums.tokens += len(before)
    sums.change += _ratio((after - before).norm(dim=-1), before.norm(dim=-1)).sum().item()
    ends = [_ratio(x, x.norm(dim=-1, keepdim=True)) for x in (before, after)]
    # unlike the arc cosine, this is exact for small angles too
    halves = torch.atan2((ends[0] - ends[1]).norm(dim=-1), (ends[0] + ends[1]).norm(dim=-1))
    sums.angle += 2 * halves.sum().item()
    sums.input_variance += before.var(dim=-1, unbiased=False).sum().item()
    sums.variance += after.var(dim=-1, unbiased=False).sum().item()


def _ratio(x: Tensor, y: Tensor) -> Tensor:
    return x / y.clamp_min(torch.finfo(y.dtype).tiny)

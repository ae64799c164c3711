"""The numbers of an analysis, as JSON holds them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from b2t_fairseq.layer_stack import LayerStack
from b2t_fairseq.sharing import shared_parameters

from .observing import LayerSums, Observer
from .subjects import Subject


def analyze(subject: Subject, batches: Iterable[dict]) -> dict[str, Any]:
    """Return what happens in a model on some batches.  Its parameters are untied: it must not be used afterwards.

    Args:
        subject: the model with its criterion.
        batches: fairseq's batches, on the model's device.

    Returns:
        The model's ``name``, ``residual`` and ``layer_sharing``, ``loss`` in bits per target token, ``tokens``, and
        ``stacks`` by name.  A stack has its ``embed_dim``, ``layers``, from the bottom, and ``sets``, one for each
        parameter set that several layers use.  A layer has

        * ``set``: the parameter set that it uses;
        * ``gradient``: root mean square over tokens of the norm of the gradient of the summed loss by the layer's
          output; ``positions`` have the same for each position in the layer, the first being its input;
        * ``parameter_gradient``: norm of the gradient of the mean loss per token by the layer's parameters, of this
          layer's use of them only if others share them;
        * ``angle``, degrees, between a token's vectors before and after the layer, and ``change``, the norm of their
          difference by the norm of the first, means over tokens;
        * ``variance``, ``input_variance``: over the elements of a token's vector after and before the layer.

        A set has its ``layers``, the ``gradient`` that all uses add up to, and the mean ``cosine`` between the
        gradients of two uses.  A number that is not finite, or not defined, is ``None``.
    """
    model = subject.model.eval()
    observer = Observer(model)
    sets = {name: stack.indices for name, stack in observer.stacks.items()}
    for name, stack in observer.stacks.items():
        untie(stack, sets[name])
    model.zero_grad(set_to_none=True)
    tokens = loss_sum = sentences = 0.0
    for batch in batches:
        with observer.observing(batch["target"].ne(subject.padding)):
            loss, _, _ = subject.criterion(model, batch)
            loss.backward()
        loss_sum += loss.item()
        tokens += batch["ntokens"]
        sentences += len(batch["target"])
    result = {
        **subject.description(),
        "loss": loss_sum / tokens / math.log(2),
        "tokens": int(tokens),
        "sentences": int(sentences),
        "stacks": {
            name: _stack(stack, sets[name], observer.layers[name], tokens) for name, stack in observer.stacks.items()
        },
    }
    return _finite(result)


def untie(stack: LayerStack, indices: list[int]) -> None:
    """Give every layer parameters of its own, so that each use of a shared set has a gradient of its own."""
    used: set[int] = set()
    for layer, index in zip(stack.layer_list(), indices, strict=True):
        for name, parameter in shared_parameters(layer).items() if index in used else ():
            path, _, last = name.rpartition(".")
            setattr(layer.get_submodule(path), last, nn.Parameter(parameter.detach().clone()))
        used.add(index)


def _stack(stack: LayerStack, indices: list[int], sums: list[LayerSums], tokens: float) -> dict[str, Any]:
    gradients = [_gradient(layer, tokens) for layer in stack.layer_list()]
    layers = [
        {"layer": number, "set": index, **_layer(found), "parameter_gradient": gradient.norm().item()}
        for number, (index, found, gradient) in enumerate(zip(indices, sums, gradients, strict=True), 1)
    ]
    shared = [index for index in dict.fromkeys(indices) if indices.count(index) > 1]
    width = getattr(stack.cfg, stack.name).embed_dim
    return {"embed_dim": width, "layers": layers, "sets": [_set(index, indices, gradients) for index in shared]}


def _layer(sums: LayerSums) -> dict[str, Any]:
    positions = [
        {"where": p.where, "sublayer": p.sublayer, "gradient": math.sqrt(p.squares / sums.tokens)}
        for p in sums.positions
    ]
    return {
        "gradient": positions[-1]["gradient"],
        "positions": positions,
        "angle": math.degrees(sums.angle / sums.tokens),
        "change": sums.change / sums.tokens,
        "input_variance": sums.input_variance / sums.tokens,
        "variance": sums.variance / sums.tokens,
    }


def _gradient(layer: nn.Module, tokens: float) -> Tensor:
    """Return the gradient of the mean loss per token by a layer's shared parameters, one vector."""
    found = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in shared_parameters(layer).values()
    ]
    return torch.cat([gradient.flatten() for gradient in found]).double() / tokens


def _set(index: int, indices: list[int], gradients: list[Tensor]) -> dict[str, Any]:
    uses = [depth for depth, other in enumerate(indices) if other == index]
    pairs = list(itertools.combinations(uses, 2))
    cosines = [_cosine(gradients[a], gradients[b]) for a, b in pairs]
    return {
        "set": index,
        "layers": [depth + 1 for depth in uses],
        "gradient": functools.reduce(torch.add, [gradients[depth] for depth in uses]).norm().item(),
        "cosine": sum(cosines) / len(cosines),
    }


def _cosine(first: Tensor, second: Tensor) -> float:
    # not torch's cosine_similarity, to which all that is shorter than 1e-8 is as good as zero
    return (first @ second / (first.norm() * second.norm())).item()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

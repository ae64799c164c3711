"""Measures one model; the result can be written as JSON."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from b2t_fairseq.layer_stack import LayerStack
from b2t_fairseq.tying import shared_parameters

from .observing import LayerSums, Observer
from .subjects import Subject


def analyze(subject: Subject, batches: Iterable[dict]) -> dict[str, Any]:
    """Return what happens in a model on some batches.  This unties the parameters: the model is of no use afterwards.

    Args:
        subject: the model with its criterion.
        batches: batches of fairseq on the device of the model.

    Returns:
        The ``name`` of the model, its ``residual`` and ``layer_sharing``, the ``loss`` in bits per target token, the
        number of ``tokens`` and ``sentences``, and the ``stacks`` by name.  A stack has its ``embed_dim``, its
        ``layers``, bottom layer first, and its ``sets``, one for each parameter set that several layers use.
        A layer has

        * ``set``: the parameter set that it uses;
        * ``gradient``: the gradient of the summed loss with respect to the output of the layer: the root mean square,
          over tokens, of its norm; ``positions`` have the same for each position in the layer, its input first;
        * ``parameter_gradient``: the norm of the gradient of the mean loss per token with respect to the parameters; if
          layers share them, only the part that comes from this layer;
        * ``angle``: in degrees, between the vectors of a token before and after the layer, and ``change``: the norm of
          their difference divided by the norm of the first one; both are means over tokens;
        * ``variance``, ``input_variance``: over the elements of the vector of a token after and before the layer.

        A set has its ``layers``, the ``gradient`` of what they share, which is the sum of the parts of all these
        layers, and ``cosine``, the mean cosine between the parts of two layers.  A number that is not finite or not
        defined is ``None``.
    """
    model = subject.model.eval()
    observer = Observer(model)
    for stack in observer.stacks.values():
        untie(stack)
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
        "stacks": {name: _stack(stack, observer.layers[name], tokens) for name, stack in observer.stacks.items()},
    }
    return _finite(result)


def untie(stack: LayerStack) -> None:
    """Give every layer its own parameters, so that each layer that used a shared set has its own gradient."""
    for layer in stack.layer_list():
        for name, parameter in shared_parameters(layer).items():
            path, _, last = name.rpartition(".")
            setattr(layer.get_submodule(path), last, nn.Parameter(parameter.detach().clone()))


def _stack(stack: LayerStack, sums: list[LayerSums], tokens: float) -> dict[str, Any]:
    indices, includes = stack.indices, stack.plan.sharing.includes
    gradients = [_gradient(layer, tokens) for layer in stack.layer_list()]
    of_sets = [_gradient(layer, tokens, includes) for layer in stack.layer_list()]
    layers = [
        {"layer": number, "set": index, **_layer(layer_sums), "parameter_gradient": gradient.norm().item()}
        for number, (index, layer_sums, gradient) in enumerate(zip(indices, sums, gradients, strict=True), 1)
    ]
    shared = [index for index in dict.fromkeys(indices) if indices.count(index) > 1]
    width = getattr(stack.cfg, stack.name).embed_dim
    return {"embed_dim": width, "layers": layers, "sets": [_set(index, indices, of_sets) for index in shared]}


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


def _gradient(layer: nn.Module, tokens: float, includes: Callable[[str], bool] = lambda name: True) -> Tensor:
    """Return the gradient of the mean loss per token with respect to the parameters of a layer, as one vector.

    The parameters of the residual scheme, which are never shared, and those that are not included are left out.
    """
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in shared_parameters(layer, includes).values()
    ]
    return torch.cat([gradient.flatten() for gradient in gradients]).double() / tokens


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
    # torch's cosine_similarity would treat vectors shorter than 1e-8 as zero
    return (first @ second / (first.norm() * second.norm())).item()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The parameters of the deeper model: copies of the trained ones, and new values for what depends on depth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_fairseq.layer_stack import LayerStack, layer_stacks


def grown(deep: nn.Module, trained: Mapping[str, Tensor], depths: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """Return all parameters and buffers of the deeper model by name.

    Args:
        deep: the deeper model, freshly built, whose own values are those that depend on depth.
        trained: the parameters and buffers of the trained model.
        depths: for each stack the depths of the trained layers that its layers start as.

    Raises:
        InputError: the trained model lacks a parameter.
    """
    fresh = deep.state_dict()
    origins = {name: name for name in fresh}
    for stack in layer_stacks(deep):
        origins |= _origins(stack, depths[stack.name])
    weights: OrderedDict[str, Tensor] = OrderedDict()
    for name, origin in origins.items():
        if origin not in trained and origin:
            raise InputError(f"it has no {origin}, so {name} of the deeper model has nothing to start from")
        weights[name] = trained[origin] if origin else fresh[name]
    return weights


def _origins(stack: LayerStack, depths: list[int]) -> dict[str, str]:
    """Return the names of the trained tensors that those of a stack's layers are; empty for what is made anew."""
    is_unchanged = depths == list(range(len(depths)))
    made_anew = [] if is_unchanged else [f"residual.{name}" for name in stack.plan.scheme.made_anew]
    layers = f"{stack.name}.{stack.layers_name}"
    origins = {}
    for depth, (layer, source) in enumerate(zip(stack.layer_list(), depths, strict=True)):
        for name in layer.state_dict():
            origins[f"{layers}.{depth}.{name}"] = "" if name in made_anew else f"{layers}.{source}.{name}"
    if not is_unchanged and stack.inputs is not None:
        # how a layer weighs the outputs of all layers below it
        origins |= {f"{stack.name}.inputs.{name}": "" for name in stack.inputs.state_dict()}
    return origins

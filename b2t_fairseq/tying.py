"""Makes layers use the same parameters, and tells which layers do.

Parameters are tied, modules are not: fairseq keys the decoder's key and value cache by module instance, so one module
used at two depths would overwrite its own cache and beam search would be wrong without any error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


def tie_parameters(
    layers: Sequence[nn.Module], indices: Sequence[int], includes: Callable[[str], bool] = lambda name: True
) -> None:
    """Make layers with equal index use the same ``Parameter`` objects: those of the first such layer.

    The layers stay distinct modules.  Parameters that a module lists in ``unshared_parameters``, because they belong to
    a position in depth, are never tied.

    Args:
        layers: the layers of a stack, or of both.
        indices: the parameter set of each layer.
        includes: tells by its name within a layer whether a parameter is shared, as :meth:`Sharing.includes` does.

    Raises:
        ValueError: the numbers of layers and indices differ, or two layers to be tied differ in the names or shapes
            of their parameters; nothing is tied then.
    """
    if len(layers) != len(indices):
        raise ValueError(f"{len(layers)} layers, but {len(indices)} indices: {list(indices)}")
    owners = [layers[list(indices).index(index)] for index in indices]
    for depth, (layer, owner) in enumerate(zip(layers, owners, strict=True)):
        shapes, owner_shapes = _shapes(layer, includes), _shapes(owner, includes)
        if shapes != owner_shapes:
            names = sorted(
                name for name in shapes.keys() | owner_shapes.keys() if shapes.get(name) != owner_shapes.get(name)
            )
            raise ValueError(
                f"layer {depth} cannot share parameter set {indices[depth]}: these parameters differ in name or "
                f"shape: {', '.join(names)}"
            )
    for layer, owner in zip(layers, owners, strict=True):
        if layer is not owner:
            for name, parameter in shared_parameters(owner, includes).items():
                module_name, _, parameter_name = name.rpartition(".")
                setattr(layer.get_submodule(module_name), parameter_name, parameter)


def shared_parameters(layer: nn.Module, includes: Callable[[str], bool] = lambda name: True) -> dict[str, nn.Parameter]:
    """Return the parameters of a layer that sharing ties, by name: those included but the ``unshared_parameters``."""
    unshared = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in layer.named_modules()
        for name in getattr(module, "unshared_parameters", ())
    }
    return {name: p for name, p in layer.named_parameters() if name not in unshared and includes(name)}


def same_layers(layer_tensors: Sequence[dict[str, Tensor]]) -> list[int]:
    """Return the index list that describes which layers hold equal values: the inverse of tying.

    Args:
        layer_tensors: for each layer its tensors by name.

    Returns:
        For each layer the number of its set; sets are numbered in the order of their first layer.
    """
    owners: list[dict[str, Tensor]] = []
    indices = []
    for tensors in layer_tensors:
        same = [
            index
            for index, owner in enumerate(owners)
            if tensors.keys() == owner.keys() and all(equal(tensors[name], owner[name]) for name in tensors)
        ]
        if not same:
            same = [len(owners)]
            owners.append(tensors)
        indices.append(same[0])
    return indices


def equal(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors have the same values; NaN, in a diverged model, counts as equal to itself."""
    return first.equal(second) or bool(((first == second) | (first.isnan() & second.isnan())).all())


def _shapes(layer: nn.Module, includes: Callable[[str], bool]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in shared_parameters(layer, includes).items()}

"""Parameter sharing across layers (Takase & Kiyono 2023, arXiv 2104.06022, figure 1).

A strategy is a pure function ``(num_layers, num_unique_layers) -> indices``: layer ``i`` of the ``num_layers`` layers
uses the parameter set ``indices[i]`` of ``num_unique_layers`` sets.  To add one, write the function and put it into
``STRATEGIES``.  Flags, error messages, tests, the figure and the tables of the documentation read that registry.

Parameters are tied, modules are not: fairseq keys the decoder's key and value cache by module instance, so one module
used at two depths would overwrite its own cache and beam search would be wrong without any error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from b2t_common.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

Strategy = Callable[[int, int], "list[int]"]


def none(num_layers: int, num_unique_layers: int) -> list[int]:
    """Every layer has parameters of its own: 0 1 2 3 4 5."""
    return list(range(num_layers))


def sequence(num_layers: int, num_unique_layers: int) -> list[int]:
    """Consecutive layers share: N=6, M=3 gives 0 0 1 1 2 2."""
    return [layer * num_unique_layers // num_layers for layer in range(num_layers)]


def cycle(num_layers: int, num_unique_layers: int) -> list[int]:
    """The M layers are stacked again and again: N=6, M=3 gives 0 1 2 0 1 2."""
    return [layer % num_unique_layers for layer in range(num_layers)]


def cycle_rev(num_layers: int, num_unique_layers: int) -> list[int]:
    """As ``cycle``, but the last repetition is reversed: N=6, M=3 gives 0 1 2 2 1 0, N=9, M=3 0 1 2 0 1 2 2 1 0."""
    indices = cycle(num_layers, num_unique_layers)
    if num_layers > num_unique_layers:
        indices[-num_unique_layers:] = reversed(range(num_unique_layers))
    return indices


STRATEGIES: dict[str, Strategy] = {strategy.__name__: strategy for strategy in (none, sequence, cycle, cycle_rev)}

NO_SHARING = none.__name__
"""The default of ``--layer-sharing``."""


def layer_indices(strategy: str, num_layers: int, num_unique_layers: int | None) -> list[int]:
    """Return the parameter set that each of ``num_layers`` layers uses, bottom layer first.

    Args:
        strategy: a name in ``STRATEGIES``.
        num_layers: N, the depth of the stack.
        num_unique_layers: M, the number of parameter sets; ``None`` only with the strategy ``none``.  M=1 is the
            Universal Transformer, M=N no sharing.

    Raises:
        InputError: unknown strategy, M missing, M given without a strategy, or M not a divisor of N.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"--layer-sharing {strategy}: unknown strategy; choose one of {', '.join(STRATEGIES)}")
    if strategy == NO_SHARING:
        if num_unique_layers is not None:
            raise InputError(
                f"{num_unique_layers} unique layers without a strategy: add --layer-sharing with one of "
                f"{', '.join(name for name in STRATEGIES if name != NO_SHARING)}, or drop the number"
            )
        return none(num_layers, num_layers)
    if num_unique_layers is None:
        raise InputError(
            f"--layer-sharing {strategy} needs the number of unique layers M of this stack, a divisor of its "
            f"{num_layers} layers; M={num_layers} leaves the stack unshared"
        )
    if num_unique_layers < 1 or num_layers % num_unique_layers:
        divisors = [m for m in range(1, num_layers + 1) if num_layers % m == 0]
        raise InputError(
            f"{num_unique_layers} unique layers do not divide {num_layers} layers; "
            f"choose one of {', '.join(map(str, divisors))}"
        )
    return STRATEGIES[strategy](num_layers, num_unique_layers)


def tie_parameters(layers: Sequence[nn.Module], indices: Sequence[int]) -> None:
    """Make layers with equal index use the same ``Parameter`` objects: those of the first such layer.

    Every parameter of a layer is shared, LayerNorms included, except those that a module lists in
    ``unshared_parameters`` because they belong to a position in depth.  The layers stay distinct modules.

    Raises:
        ValueError: the numbers of layers and indices differ, or two layers to be tied differ in the names or shapes
            of their parameters; nothing is tied then.
    """
    if len(layers) != len(indices):
        raise ValueError(f"{len(layers)} layers, but {len(indices)} indices: {list(indices)}")
    owners = [layers[list(indices).index(index)] for index in indices]
    for depth, (layer, owner) in enumerate(zip(layers, owners, strict=True)):
        shapes, owner_shapes = _shapes(layer), _shapes(owner)
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
            for name, parameter in shared_parameters(owner).items():
                module_name, _, parameter_name = name.rpartition(".")
                setattr(layer.get_submodule(module_name), parameter_name, parameter)


def shared_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a layer that sharing ties, by name: all but the ``unshared_parameters``."""
    unshared = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in layer.named_modules()
        for name in getattr(module, "unshared_parameters", ())
    }
    return {name: parameter for name, parameter in layer.named_parameters() if name not in unshared}


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
            if tensors.keys() == owner.keys() and all(_equal(tensors[name], owner[name]) for name in tensors)
        ]
        if not same:
            same = [len(owners)]
            owners.append(tensors)
        indices.append(same[0])
    return indices


def _equal(first: Tensor, second: Tensor) -> bool:
    # NaN, in a diverged model, is not equal to itself.
    return first.equal(second) or bool(((first == second) | (first.isnan() & second.isnan())).all())


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in shared_parameters(layer).items()}

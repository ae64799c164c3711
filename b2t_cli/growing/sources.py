"""Finds, for each layer of the deeper model, the layer of the trained model whose parameters it starts from."""

from __future__ import annotations

from collections.abc import Mapping

from b2t_common.errors import InputError
from b2t_common.names import STACKS, flag
from b2t_fairseq.settings.plan import Plan, StackPlan
from b2t_fairseq.sharing import (
    NO_SHARING,
    STRATEGIES,
    SUBLAYERS,
    is_list,
    layer_indices,
    of_stack,
    possible_sets,
)

_ORDERS = [name for name in STRATEGIES if name != NO_SHARING]


def depths(plan: Plan, layers: Mapping[str, int | None], order: str | None) -> dict[str, list[int]]:
    """Return for each stack the depths, in the trained model, of the layers that its layers start as.

    Args:
        plan: the plan of the trained model.
        layers: the number of layers of each stack, ``None`` for as many as now.
        order: what ``--from`` says; ``None`` if it was not given.

    Raises:
        InputError: the model would not grow, or not in this order; the message quotes the values.
    """
    numbers = {stack.name: _number_of_layers(stack, layers[stack.name]) for stack in plan.stacks}
    for name in STACKS:
        if name not in numbers and layers[name] is not None:
            raise InputError(f"{flag(f'{name}_layers')} {layers[name]}: the model has no {name}; drop the flag")
    if order is None:
        return _own_depths(plan, numbers)
    if "/" in order and len(plan.stacks) == 1:
        raise InputError(f"--from {order} is for two stacks, but the model has only a {plan.stacks[0].name}")
    found = {stack.name: _starts(stack, numbers[stack.name], of_stack(order, stack.name)) for stack in plan.stacks}
    if are_unchanged(plan, found) and not _is_shared(plan):
        raise _nothing_to_do(plan)
    return found


def are_unchanged(plan: Plan, found: Mapping[str, list[int]]) -> bool:
    """Return whether every layer starts as the layer at its own depth, so that the function stays the same."""
    return all(found[stack.name] == list(range(stack.num_layers)) for stack in plan.stacks)


def _number_of_layers(stack: StackPlan, asked: int | None) -> int:
    if asked is not None and asked < stack.num_layers:
        name = flag(f"{stack.name}_layers")
        raise InputError(
            f"{name} {asked}: the {stack.name} has {stack.num_layers} layers, and a model grows to more; to leave "
            f"layers out, train further with {name}-to-keep"
        )
    return stack.num_layers if asked is None else asked


def _own_depths(plan: Plan, numbers: Mapping[str, int]) -> dict[str, list[int]]:
    for stack in plan.stacks:
        if numbers[stack.name] > stack.num_layers:
            raise InputError(
                f"{flag(f'{stack.name}_layers')} {numbers[stack.name]}: the {stack.name} has {stack.num_layers} "
                f"layers; --from says from which of them each new one starts: {', '.join(_ORDERS)} or a list"
            )
    if not _is_shared(plan):
        raise _nothing_to_do(plan)
    return {stack.name: list(range(stack.num_layers)) for stack in plan.stacks}


def _is_shared(plan: Plan) -> bool:
    return any(stack.sharing.is_shared for stack in plan.stacks)


def _nothing_to_do(plan: Plan) -> InputError:
    now = "-".join(str(stack.num_layers) for stack in plan.stacks)
    return InputError(
        f"the model has {now} layers already, and none of them are shared: nothing to do; give more layers with "
        f"{' or '.join(flag(f'{stack.name}_layers') for stack in plan.stacks)}"
    )


def _starts(stack: StackPlan, num_layers: int, order: str) -> list[int]:
    """Return the depths of the layers that the layers of one stack start as."""
    first = _first_layers(stack)
    indices = _listed(stack, num_layers, order, len(first)) if is_list(order) else _ordered(stack, num_layers, order)
    sets = [first.index(depth) for depth in _owners(stack)]
    if indices == sets:
        # the layers keep what belongs to their depth
        return list(range(num_layers))
    return [first[index] for index in indices]


def _owners(stack: StackPlan) -> list[int]:
    """Return for each layer the depth of the first layer that is the same; layers that share a part only are not."""
    sharing = stack.sharing
    if set(sharing.sublayers) < set(SUBLAYERS) or not sharing.norms:
        return list(range(stack.num_layers))
    return [stack.indices.index(index) for index in stack.indices]


def _first_layers(stack: StackPlan) -> list[int]:
    """Return the depth of the first layer of each parameter set."""
    return list(dict.fromkeys(_owners(stack)))


def _listed(stack: StackPlan, num_layers: int, order: str, num_sets: int) -> list[int]:
    indices = [int(index) for index in order.split(",")]
    if len(indices) != num_layers:
        raise InputError(
            f"--from {order} lists {len(indices)} layers, but the {stack.name} is to have {num_layers}; write "
            "ENCODER/DECODER if the stacks differ"
        )
    if max(indices) >= num_sets:
        raise InputError(
            f"--from {order} names set {max(indices)}, but the {stack.name} has only {num_sets}, the sets 0 to "
            f"{num_sets - 1}"
        )
    return indices


def _ordered(stack: StackPlan, num_layers: int, order: str) -> list[int]:
    num_sets = len(_first_layers(stack))
    if order not in _ORDERS:
        raise InputError(f"--from {order}: choose one of {', '.join(_ORDERS)}, or a list such as 0,1,2,2,1,0")
    if num_sets not in possible_sets(order, num_layers):
        possible = [n for n in range(num_sets, 4 * num_sets + 1) if num_sets in possible_sets(order, n)]
        raise InputError(
            f"--from {order}: the {num_sets} sets of the {stack.name} cannot make {num_layers} layers; choose one of "
            f"{', '.join(map(str, possible))}, or list the set of each layer"
        )
    return layer_indices(order, num_layers, num_sets)

"""Which layers of a model of the sharing release share, what they really share, and with which flags of this plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from b2t_common.errors import InputError
from b2t_common.names import STACKS
from b2t_fairseq import sharing, tying

from .flags import ReleaseFlags

# the release's names of the strategies
_STRATEGIES = {
    sharing.sequence.__name__: sharing.sequence.__name__,
    sharing.cycle.__name__: sharing.cycle.__name__,
    "cycle_reverse": sharing.cycle_rev.__name__,
}
_CROSS_BIAS, _SELF_BIAS = "encoder_attn.in_proj_bias", "self_attn.in_proj_bias"

_UNTIED = "untied, to keep the function exactly"
_WRONG_BIAS = (
    "whose cross-attention has the input bias of the base layer's self-attention (an error in the release), which no "
    "sharing of layers expresses; --retie writes the properly tied model, which translates differently"
)


@dataclass(frozen=True)
class SharingPlan:
    """How the sharing of a release is expressed in this plugin.

    Attributes:
        weights: the parameters of the release; with ``--retie`` some of them are replaced.
        flags: this plugin's flags of sharing, empty for an untied model.
        report: sentences for the user.
    """

    weights: dict[str, Tensor]
    flags: dict[str, Any] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)


def plan(release: ReleaseFlags, weights: dict[str, Tensor], retie: bool) -> SharingPlan:
    """Decide whether the converted model is tied, after a check that the weights are shared as the settings say.

    Args:
        release: the settings.
        weights: the parameters, under the release's names.
        retie: tie all that the sharing release was meant to tie.

    Raises:
        InputError: settings and weights contradict each other, or there is nothing that ``retie`` could tie.
    """
    num_layers = {stack: getattr(release.args, f"{stack}_layers") for stack in STACKS}
    layers = {stack: layers_of(weights, stack, n) for stack, n in num_layers.items()}
    if release.sharing is None:
        if retie:
            raise InputError("--retie is for models that share layers, which this one does not")
        return SharingPlan(weights)
    k, share_type = release.sharing
    indices = {stack: release_indices(share_type, n, k) for stack, n in num_layers.items()}
    for stack in STACKS:
        check_sharing(layers[stack], indices[stack], stack)
    if all(len(set(order)) == len(order) for order in indices.values()):
        return SharingPlan(weights, report=[f"--share-layer-num {k} shares nothing"])
    copies = copies_with_wrong_bias(layers["decoder"], indices["decoder"])
    flags = as_flags(share_type, indices)
    if copies and retie:
        return _retied(weights, flags, copies)
    if copies:
        listed = ", ".join(map(str, copies))
        return SharingPlan(weights, report=[f"{_UNTIED}: the decoder layers {listed} are copies, {_WRONG_BIAS}"])
    return SharingPlan(weights, flags, ["--retie changed nothing: the layers share properly"] if retie else [])


def _retied(weights: dict[str, Tensor], flags: dict[str, Any], bases: Mapping[int, int]) -> SharingPlan:
    """Give each copied decoder layer the cross-attention bias of its base layer.

    Args:
        weights: the parameters, under the release's names.
        flags: this plugin's flags of sharing.
        bases: the depth of the base layer of each copied layer, by the depth of the copy.
    """
    name = f"decoder.layers.{{}}.{_CROSS_BIAS}"
    tied = {**weights, **{name.format(depth): weights[name.format(base)] for depth, base in bases.items()}}
    largest = max((tied[name.format(d)].float() - weights[name.format(d)].float()).abs().max().item() for d in bases)
    report = (
        f"--retie: the cross-attention input biases (query, key, value) of the decoder layers "
        f"{', '.join(map(str, bases))} are now those of their base layers {', '.join(map(str, bases.values()))}; "
        f"largest change of a bias {largest:.2g}"
    )
    return SharingPlan(tied, flags, [report])


def release_indices(share_type: str, num_layers: int, share_layer_num: int) -> list[int]:
    """Return the parameter set of each layer in the sharing release, bottom layer first.

    Args:
        share_type: the release's ``--share-type``.
        num_layers: N.
        share_layer_num: K; there are M = N/K sets, rounded up.  If M does not divide N, the order has gaps.

    Raises:
        InputError: ``share_type`` is unknown, or the release cannot train with this K.
    """
    if share_type not in _STRATEGIES:
        raise InputError(f"--share-type {share_type} is not one of the release's: {', '.join(_STRATEGIES)}")
    if share_type == sharing.sequence.__name__:
        return [layer // share_layer_num if share_layer_num > 0 else 0 for layer in range(num_layers)]
    if share_layer_num < 1:
        raise InputError(f"--share-layer-num {share_layer_num}: the release cannot build --share-type {share_type}")
    sets = -(-num_layers // share_layer_num)
    indices = [layer % sets for layer in range(num_layers)]
    if share_type == sharing.cycle.__name__:
        return indices
    forward = max(sets, num_layers - sets)
    return indices[:forward] + [sets - 1 - step for step in range(num_layers - forward)]


def stored_indices(layers: list[dict[str, Tensor]]) -> list[int]:
    """Return which layers have equal parameters, apart from Admin's ratios and the bias that may be wrong."""
    return tying.same_layers(
        [{n: t for n, t in layer.items() if "ratio_change" not in n and n != _CROSS_BIAS} for layer in layers]
    )


def layers_of(tensors: Mapping[str, Tensor], stack: str, num_layers: int) -> list[dict[str, Tensor]]:
    """Return the tensors of each layer by their names within the layer."""
    layers: list[dict[str, Tensor]] = [{} for _ in range(num_layers)]
    for name, tensor in tensors.items():
        if name.startswith(f"{stack}.layers."):
            depth, _, rest = name.removeprefix(f"{stack}.layers.").partition(".")
            if not depth.isdecimal() or int(depth) >= num_layers:
                raise InputError(f"it has {name}, but --{stack}-layers {num_layers}")
            layers[int(depth)][rest] = tensor
    return layers


def check_sharing(layers: list[dict[str, Tensor]], indices: list[int], stack: str) -> None:
    """Check that layers that share by the settings have equal parameters.

    Raises:
        InputError: they do not; the settings are not those of this model.
    """
    stored = stored_indices(layers)
    if [stored.index(i) for i in stored] != [indices.index(i) for i in indices]:
        raise InputError(
            f"by its settings the {stack} layers use the parameter sets {_join(indices)}, but by its weights "
            f"{_join(stored)}: settings and weights are not of one model"
        )


def copies_with_wrong_bias(layers: list[dict[str, Tensor]], indices: list[int]) -> dict[int, int]:
    """Return the decoder layers whose cross-attention bias is the self-attention bias of their base layer.

    Returns:
        The depth of the base layer of each, by the depth of the copy.

    Raises:
        InputError: the bias of a copied layer is neither that nor the cross-attention bias of its base layer.
    """
    copies = {}
    for depth, index in enumerate(indices):
        base = indices.index(index)
        bias = layers[depth].get(_CROSS_BIAS)
        if base == depth or bias is None or bias.equal(layers[base][_CROSS_BIAS]):
            continue
        if not bias.equal(layers[base][_SELF_BIAS]):
            raise InputError(
                f"decoder layer {depth} shares with layer {base}, but its cross-attention bias is neither that "
                "layer's own nor, as in the release, that layer's self-attention bias"
            )
        copies[depth] = base
    return copies


def as_flags(share_type: str, indices: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return this plugin's flags of sharing for an order of parameter sets: a strategy, or else a list.

    Args:
        share_type: the release's name of the order; this plugin's strategy of that name is tried first.
        indices: the parameter set of each layer, by stack.
    """
    sets = {stack: len(set(indices[stack])) for stack in STACKS}
    for strategy in sorted(sharing.STRATEGIES, key=lambda name: name != _STRATEGIES[share_type]):
        if strategy != sharing.none.__name__ and all(
            sets[stack] in sharing.possible_sets(strategy, len(indices[stack]))
            and sharing.layer_indices(strategy, len(indices[stack]), sets[stack]) == indices[stack]
            for stack in STACKS
        ):
            return {"layer_sharing": strategy, **{f"{stack}_unique_layers": sets[stack] for stack in STACKS}}
    lists = [",".join(map(str, indices[stack])) for stack in STACKS]
    return {"layer_sharing": "/".join(dict.fromkeys(lists))}


def _join(indices: list[int]) -> str:
    return " ".join(map(str, indices))

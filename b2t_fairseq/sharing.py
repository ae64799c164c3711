"""Parameter sharing across layers (Takase & Kiyono 2023, arXiv 2104.06022, figure 1).

Which layers share: a strategy is a pure function ``(num_layers, num_unique_layers) -> indices``: layer ``i`` of the
``num_layers`` layers uses the parameter set ``indices[i]`` of ``num_unique_layers`` sets.  To add one, write the
function and put it into ``STRATEGIES``.  Flags, error messages, tests and the tables of the documentation read that
registry.  A list such as ``0,1,1,0`` in the place of a strategy's name gives the indices themselves.

What they share: :class:`Sharing` says which sub-layers, whether the norms too, and whether with the other stack.

:mod:`b2t_fairseq.tying` makes layers share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from b2t_common.errors import InputError

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


def sandwich(num_layers: int, num_unique_layers: int) -> list[int]:
    """The first and the last layer have sets of their own, those between share as in ``sequence``: N=6, M=3 gives
    0 1 1 1 1 2.

    With M=3 that is Subformer (Reid et al. 2021, arXiv 2101.00234), which leaves the norms unshared.
    """
    if num_unique_layers == num_layers:
        return none(num_layers, num_layers)
    between = sequence(num_layers - 2, num_unique_layers - 2)
    return [0, *(1 + index for index in between), num_unique_layers - 1]


STRATEGIES: dict[str, Strategy] = {
    strategy.__name__: strategy for strategy in (none, sequence, cycle, cycle_rev, sandwich)
}

NO_SHARING = none.__name__
"""The default of ``--layer-sharing``."""

OF_THE_PAPER = tuple(strategy.__name__ for strategy in (sequence, cycle, cycle_rev))
"""The strategies of the sharing paper, which the README and its figure show."""


def possible_sets(strategy: str, num_layers: int) -> list[int]:
    """Return every number M of parameter sets that a strategy can give to ``num_layers`` layers, in ascending order."""
    return _POSSIBLE_SETS.get(strategy, _divisors)(num_layers)


def _divisors(num_layers: int) -> list[int]:
    return [m for m in range(1, num_layers + 1) if num_layers % m == 0]


def _sandwich_sets(num_layers: int) -> list[int]:
    return sorted({num_layers, *(2 + m for m in _divisors(num_layers - 2))})


# the strategies for which M need not be a divisor of N
_POSSIBLE_SETS = {sandwich.__name__: _sandwich_sets}

_LIST = re.compile(r"\d+(,\d+)*")


def of_stack(layer_sharing: str, stack: str) -> str:
    """Return what ``--layer-sharing`` says of one stack: all of it, or its part of ``ENCODER/DECODER``."""
    encoder, slash, decoder = layer_sharing.partition("/")
    return decoder if slash and stack == "decoder" else encoder


def layer_indices(strategy: str, num_layers: int, num_unique_layers: int | None) -> list[int]:
    """Return the parameter set that each of ``num_layers`` layers uses, bottom layer first.

    Args:
        strategy: a name in ``STRATEGIES``, or a list of the sets, such as ``0,1,1,0``.  The sets of a list are numbered
            anew in the order of their first layer.
        num_layers: N, the depth of the stack.
        num_unique_layers: M, the number of parameter sets; ``None`` with the strategy ``none`` and with a list.  M=1 is
            the Universal Transformer, M=N no sharing.

    Raises:
        InputError: unknown strategy, M missing, M given without a strategy, an M that the strategy cannot give to N
            layers, or a list that is not one of N layers.
    """
    if is_list(strategy):
        return _listed(strategy, num_layers, num_unique_layers)
    if strategy not in STRATEGIES:
        raise InputError(
            f"--layer-sharing {strategy}: unknown strategy; choose one of {', '.join(STRATEGIES)}, or list the "
            "parameter set of each layer, as in 0,1,1,0"
        )
    if strategy == NO_SHARING:
        if num_unique_layers is not None:
            raise InputError(
                f"{num_unique_layers} unique layers without a strategy: add --layer-sharing with one of "
                f"{', '.join(name for name in STRATEGIES if name != NO_SHARING)}, or drop the number"
            )
        return none(num_layers, num_layers)
    possible = possible_sets(strategy, num_layers)
    if num_unique_layers is None:
        raise InputError(
            f"--layer-sharing {strategy} needs the number of unique layers M of this stack: for its {num_layers} "
            f"layers one of {', '.join(map(str, possible))}; M={num_layers} leaves the stack unshared"
        )
    if num_unique_layers not in possible:
        problem = "do not divide" if possible == _divisors(num_layers) else f"cannot make a {strategy} of"
        raise InputError(
            f"{num_unique_layers} unique layers {problem} {num_layers} layers; "
            f"choose one of {', '.join(map(str, possible))}"
        )
    return STRATEGIES[strategy](num_layers, num_unique_layers)


def is_list(strategy: str) -> bool:
    """Return whether a text lists the parameter set of each layer, as ``0,1,1,0`` does."""
    return _LIST.fullmatch(strategy) is not None


def _listed(text: str, num_layers: int, num_unique_layers: int | None) -> list[int]:
    """Return the sets of a list, numbered in the order of their first layer."""
    indices = [int(index) for index in text.split(",")]
    if len(indices) != num_layers:
        raise InputError(
            f"--layer-sharing {text} lists the parameter sets of {len(indices)} layers, but the stack has "
            f"{num_layers}; write ENCODER/DECODER, as in 0,1,1,0/0,0,1, if the stacks differ"
        )
    if missing := sorted(set(range(max(indices))) - set(indices)):
        raise InputError(
            f"--layer-sharing {text} names set {max(indices)}, but set {missing[0]} is missing; number the sets from 0 "
            "without gaps"
        )
    if num_unique_layers is not None:
        raise InputError(
            f"{num_unique_layers} unique layers: --layer-sharing {text} says itself that there are "
            f"{len(set(indices))}; drop the number"
        )
    return _in_order(indices)


def _in_order(indices: Sequence[int]) -> list[int]:
    """Number sets in the order of their first layer."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(index, len(numbers)) for index in indices]


SELF_ATTENTION, CROSS_ATTENTION, FEED_FORWARD = "self_attention", "cross_attention", "feed_forward"
SUBLAYERS = (SELF_ATTENTION, CROSS_ATTENTION, FEED_FORWARD)

# how the names of a sub-layer's parameters begin in a layer, its norm's too; all others are of the feed-forward one
_PREFIXES = {"self_attn": SELF_ATTENTION, "encoder_attn": CROSS_ATTENTION}


# a norm that a residual scheme adds to a sub-layer, given the sub-layer's number in its layer
_NORM_OF_SCHEME = re.compile(r"residual\.\w+\.(\d+)\.")


def _sublayer(name: str, num_sublayers: int) -> str:
    """Return the sub-layer to which a parameter belongs, its norm's parameters too, given its name within a layer."""
    if added := _NORM_OF_SCHEME.match(name):
        order = SUBLAYERS if num_sublayers == len(SUBLAYERS) else (SELF_ATTENTION, FEED_FORWARD)
        return order[int(added[1])]
    return next((sublayer for prefix, sublayer in _PREFIXES.items() if name.startswith(prefix)), FEED_FORWARD)


SHARE_SUBLAYERS: dict[str, tuple[str, ...]] = {
    "all": SUBLAYERS,
    "attention": (SELF_ATTENTION, CROSS_ATTENTION),
    **{sublayer: (sublayer,) for sublayer in SUBLAYERS},
}
"""The values of ``--share-sublayers``: which sub-layers of a layer are shared."""

ALL_SUBLAYERS = "all"
"""The default of ``--share-sublayers``."""


@dataclass(frozen=True)
class Sharing:
    """How the layers of one stack share.

    Attributes:
        indices: the number of the parameter set that each layer uses, bottom layer first.
        sublayers: which sub-layers of a layer are shared, some of ``SUBLAYERS``.
        norms: whether the norms of these sub-layers are shared too.
        with_other_stack: whether layers of encoder and decoder that use sets of the same number share them.
        num_sublayers: sub-layers of a layer: 2, or 3 with cross-attention.
    """

    indices: tuple[int, ...]
    sublayers: tuple[str, ...] = SUBLAYERS
    norms: bool = True
    with_other_stack: bool = False
    num_sublayers: int = 3

    @property
    def num_sets(self) -> int:
        """The number of parameter sets, M."""
        return len(set(self.indices))

    @property
    def is_shared(self) -> bool:
        """Whether at least two layers share something."""
        return self.with_other_stack or self.num_sets < len(self.indices)

    def includes(self, name: str) -> bool:
        """Return whether layers of one set share a parameter, given its name within a layer."""
        return _sublayer(name, self.num_sublayers) in self.sublayers and (self.norms or "norm" not in name)

    def includes_in_common(self, name: str) -> bool:
        """Return whether the layers of both stacks share a parameter.

        Cross-attention stays the decoder's.  Norms that a residual scheme adds stay apart, as their numbers differ.
        """
        if not self.with_other_stack or name.startswith("residual."):
            return False
        return self.includes(name) and _sublayer(name, self.num_sublayers) != CROSS_ATTENTION

    def is_like(self, other: Sharing) -> bool:
        """Return whether two stacks of the same depth share in the same way."""
        mine, others = (
            (_in_order(s.indices), s.with_other_stack, (s.sublayers, s.norms) if s.is_shared else None)
            for s in (self, other)
        )
        return mine == others

    def at(self, depths: Sequence[int]) -> Sharing:
        """Return the sharing of some of the layers, given their depths."""
        return replace(self, indices=tuple(self.indices[depth] for depth in depths))

    def record(self) -> dict[str, Any]:
        """Return what :meth:`of_record` reads, in types that every checkpoint can hold."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Sharing:
        """Return the sharing that a checkpoint has recorded."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        return cls(**values)

    def __str__(self) -> str:
        text = " ".join(map(str, self.indices))
        if self.is_shared and self.sublayers != SUBLAYERS:
            text += f" of {' and '.join(self.sublayers)}"
        if self.is_shared and not self.norms:
            text += " without norms"
        return text + (" in common with the other stack" if self.with_other_stack else "")

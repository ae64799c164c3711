"""What a report says of the model that a run trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Model:
    """A model's scheme and sharing, its N and M by stack, and its number of parameters; empty is not known."""

    scheme: str = ""
    sharing: str = ""
    layers: dict[str, int] = field(default_factory=dict)
    unique_layers: dict[str, int] = field(default_factory=dict)
    parameters: int | None = None

    @classmethod
    def of_sets(
        cls, scheme: str, sharing: str, sets: Mapping[str, Sequence[int]], parameters: int | None = None
    ) -> Model:
        """Return a model, given for each stack the parameter set that each of its layers uses."""
        layers = {stack: len(indices) for stack, indices in sets.items()}
        unique_layers = {stack: len(set(indices)) for stack, indices in sets.items()}
        return cls(scheme, sharing, layers, unique_layers, parameters)

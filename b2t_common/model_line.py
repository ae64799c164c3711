"""The one line that the plugin logs about a new model, and that ``b2t`` reads from the log of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LINE = re.compile(
    r"--residual (\S+) --layer-sharing (\S+(?: --[\w-]+(?: \w+)?)*); "
    r"parameter sets: (\w+(?: \d+)+(?:, \w+(?: \d+)+)*); "
    r"([\d,]+) parameters \(([\d,]+) without sharing\)"
)


@dataclass(frozen=True)
class ModelLine:
    """What the line says.

    Attributes:
        residual: name of the residual scheme.
        layer_sharing: the sharing strategy, followed by the flags that say what is shared.
        parameter_sets: for each stack by name, the parameter set that each layer uses, bottom layer first.
        parameters: number of parameters, tied ones counted once.
        unshared_parameters: the same for the model without sharing.
    """

    residual: str
    layer_sharing: str
    parameter_sets: dict[str, list[int]]
    parameters: int
    unshared_parameters: int


def format_model_line(model: ModelLine) -> str:
    """Return the line, without the time and the name of the logger."""
    sets = ", ".join(f"{stack} {' '.join(map(str, indices))}" for stack, indices in model.parameter_sets.items())
    return (
        f"--residual {model.residual} --layer-sharing {model.layer_sharing}; parameter sets: {sets}; "
        f"{model.parameters:,} parameters ({model.unshared_parameters:,} without sharing)"
    )


def parse_model_line(text: str) -> ModelLine | None:
    """Return what a line of a log says of a model, ``None`` if it is another line or is not complete."""
    match = _LINE.search(text)
    if match is None:
        return None
    residual, layer_sharing, sets, *numbers = match.groups()
    stacks = (stack.split() for stack in sets.split(", "))
    parameter_sets = {name: [int(index) for index in indices] for name, *indices in stacks}
    parameters, unshared = (int(number.replace(",", "")) for number in numbers)
    return ModelLine(residual, layer_sharing, parameter_sets, parameters, unshared)


def sharing_flags(settings: Mapping[str, Any]) -> str:
    """Return the strategy and the flags that say what is shared, as they stand after ``--layer-sharing``.

    Args:
        settings: those of a model; an earlier version, or fairseq, did not have all of them.
    """
    text = settings.get("layer_sharing") or ""
    if (sublayers := settings.get("share_sublayers", "all")) != "all":
        text += f" --share-sublayers {sublayers}"
    text += "" if settings.get("share_norms", True) else " --no-share-norms"
    return text + (" --share-encoder-decoder" if settings.get("share_encoder_decoder") else "")

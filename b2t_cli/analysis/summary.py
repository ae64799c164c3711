"""The table of an analysis."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from ..tables import RULE, Table
from .positions import AFTER_NORM, BEFORE_NORM

NOTES = [
    "gradient: at the input of the stack, divided by that at its output; below 1 it vanishes towards the bottom",
    "norm passes: the part of the gradient that a norm lets through, median over the norms on the residual stream",
    "idlest layer: the one with the smallest angle, in degrees, between its input and its output; its change: the norm "
    "of their difference, divided by the norm of its input",
    "variance: over the elements of the vector of a token, at the input of the stack and after its last layer",
    "loss: bits per target token, of the criterion of the training, without dropout",
]


def table(models: Sequence[dict[str, Any]], about: str) -> Table:
    """Return a row for each stack of each model.

    Args:
        models: what :func:`~b2t_cli.analysis.measuring.analyze` has returned for each.
        about: which sentences they have read.
    """
    rows: list[list[str]] = []
    header: list[str] = []
    for model in models:
        rows += [RULE] if rows else []
        for index, name in enumerate(model["stacks"]):
            cells = _cells(model, name, is_first=index == 0)
            header = list(cells)
            rows.append(list(cells.values()))
    return Table(f"Layers on {about}", header, rows, NOTES, left=2)


def _cells(model: dict[str, Any], name: str, is_first: bool) -> dict[str, str]:
    """Return the row of a stack, by column; what is known of the whole model is in the first row only."""
    stack = model["stacks"][name]
    layers = stack["layers"]
    idlest = min(layers, key=lambda layer: float("inf") if layer["angle"] is None else layer["angle"])
    variances = [_number(variance, ".3g") for variance in (layers[0]["input_variance"], layers[-1]["variance"])]
    return {
        "model": model["name"] if is_first else "",
        "stack": name,
        "N": str(len(layers)),
        "M": str(len({layer["set"] for layer in layers})),
        "updates": f"{model['updates']:,}" if is_first and model["updates"] is not None else "",
        "loss": _number(model["loss"], ".3f") if is_first else "",
        "gradient": _number(reaching_bottom(stack), ".3g"),
        "norm passes": _number(passed_by_norms(stack), ".2f"),
        "idlest layer": str(idlest["layer"]),
        "its angle": _number(idlest["angle"], ".1f"),
        "its change": _number(idlest["change"], ".3f"),
        "variance": " \N{RIGHTWARDS ARROW} ".join(variances),
    }


def reaching_bottom(stack: dict[str, Any]) -> float | None:
    """Return the gradient at the input of a stack divided by that at its output, ``None`` if one is not finite."""
    layers = stack["layers"]
    return _ratio(layers[0]["positions"][0]["gradient"], layers[-1]["gradient"])


def passed_by_norms(stack: dict[str, Any]) -> float | None:
    """Return the gradient before a norm divided by the gradient after it, median over the norms on the residual stream.

    In Pre-LN only sub-layers read the outputs of norms, so there are no norms on the stream: the result is ``None``.
    """
    ratios = []
    for layer in stack["layers"]:
        positions = layer["positions"]
        if positions[-1]["where"] != AFTER_NORM:
            continue
        for before, after in itertools.pairwise(positions):
            if (before["where"], after["where"]) == (BEFORE_NORM, AFTER_NORM):
                ratios.append(_ratio(before["gradient"], after["gradient"]))
    finite = [ratio for ratio in ratios if ratio is not None]
    return statistics.median(finite) if finite else None


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _number(value: float | None, format_spec: str) -> str:
    return "-" if value is None else format(value, format_spec)

"""The table of an analysis."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from ..tables import RULE, Table
from .positions import AFTER_NORM, BEFORE_NORM

HEADER = [
    *("model", "stack", "N", "M", "updates", "loss"),
    *("gradient", "norm passes", "idlest layer", "its angle", "its change", "variance"),
]
NOTES = [
    "gradient: at the stack's input by that at its output; below 1 it vanishes towards the bottom",
    "norm passes: what part of the gradient a norm lets through, median over the norms on the way through the layers",
    "idlest layer: the one with the smallest angle, in degrees, between its input and its output; its change: the norm "
    "of their difference by the norm of its input",
    "variance: over the elements of a token's vector, at the stack's input and after the last layer",
    "loss: bits per target token, of the criterion of training, without dropout",
]


def table(models: Sequence[dict[str, Any]], about: str) -> Table:
    """Return two rows for each model, one for each stack.

    Args:
        models: what :func:`~b2t_fairseq.analysis.measuring.analyze` returned of each.
        about: which sentences they read.
    """
    rows: list[list[str]] = []
    for model in models:
        rows += [RULE] if rows else []
        for index, (name, stack) in enumerate(model["stacks"].items()):
            cells = ["", name, *_size(stack), "", "", *_behaviour(stack)]
            if index == 0:
                cells[0] = model["name"]
                cells[4:6] = [
                    "" if model["updates"] is None else f"{model['updates']:,}",
                    _number(model["loss"], ".3f"),
                ]
            rows.append(cells)
    return Table(f"Layers on {about}", HEADER, rows, NOTES, left=2)


def _size(stack: dict) -> list[str]:
    layers = stack["layers"]
    return [str(len(layers)), str(len({layer["set"] for layer in layers}))]


def _behaviour(stack: dict) -> list[str]:
    layers = stack["layers"]
    idlest = min(layers, key=lambda layer: float("inf") if layer["angle"] is None else layer["angle"])
    return [
        _number(reaching_bottom(stack), ".3g"),
        _number(passed_by_norms(stack), ".2f"),
        str(idlest["layer"]),
        _number(idlest["angle"], ".1f"),
        _number(idlest["change"], ".3f"),
        f"{_number(layers[0]['input_variance'], '.3g')} \N{RIGHTWARDS ARROW} {_number(layers[-1]['variance'], '.3g')}",
    ]


def reaching_bottom(stack: dict[str, Any]) -> float | None:
    """Return the gradient at a stack's input by that at its output, ``None`` if one of them is not finite."""
    layers = stack["layers"]
    return _ratio(layers[0]["positions"][0]["gradient"], layers[-1]["gradient"])


def passed_by_norms(stack: dict[str, Any]) -> float | None:
    """Return the median of gradient before a norm by gradient after it, over the norms that the stream passes through.

    A norm that only a sub-layer reads, as all of Pre-LN's, is none of these; ``None`` if there are no others.
    """
    ratios = []
    for layer in stack["layers"]:
        places = layer["positions"]
        if places[-1]["where"] != AFTER_NORM:
            continue
        for before, after in itertools.pairwise(places):
            if (before["where"], after["where"]) == (BEFORE_NORM, AFTER_NORM):
                ratios.append(_ratio(before["gradient"], after["gradient"]))
    found = [ratio for ratio in ratios if ratio is not None]
    return statistics.median(found) if found else None


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

"""Figures of analyzed models, side by side: every quantity by depth, drawn with matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import style
from .positions import AFTER_NORM, BEFORE_NORM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH, HEIGHT = 3.7, 2.4
OVERVIEW = "analysis"
SHARED = "shared_sets"
_SMALL: dict[str, Any] = {"marker": ".", "markersize": 3}
_MARKERS: dict[str, dict[str, Any]] = {AFTER_NORM: {"marker": "o"}, BEFORE_NORM: {"marker": "o", "fillstyle": "none"}}

_FAR = 100
"""A value is cut off if it is more than so many times the median of the models' highest values."""

Points = tuple[list[float], list[float]]
Stack = dict[str, Any]


class Panel(NamedTuple):
    """One quantity by depth.

    Attributes:
        name: of the file, without its ending.
        horizontal, vertical: labels of the axes.
        points: returns the horizontal and the vertical coordinates for a stack.
        scale: of the vertical axis, ``"linear"`` or ``"log"``.
    """

    name: str
    horizontal: str
    vertical: str
    points: Callable[[Stack], Points]
    scale: str = "linear"


def _by_layer(key: str) -> Callable[[Stack], Points]:
    return lambda stack: _numbered([layer[key] for layer in stack["layers"]], 1)


def _with_input(key: str, at_input: Callable[[dict], float]) -> Callable[[Stack], Points]:
    return lambda stack: _numbered([at_input(stack["layers"][0]), *(layer[key] for layer in stack["layers"])], 0)


def _drawable(panel: Panel, stack: Stack | None) -> Points:
    """Return the points of a stack that the axes can show: a logarithmic axis has no zero."""
    numbers, values = panel.points(stack) if stack else ([], [])
    points = zip(numbers, values, strict=True)
    return _columns([point for point in points if point[1] > 0 or panel.scale != "log"])


def _numbered(values: list[float | None], first: int) -> Points:
    """Return the values that are known, with their numbers, which begin at ``first``."""
    return _columns([(number, value) for number, value in enumerate(values, first) if value is not None])


def _columns(points: list[tuple[float, float]]) -> Points:
    return [number for number, _ in points], [value for _, value in points]


def _inside(stack: Stack) -> Points:
    return _numbered([position["gradient"] for position in stack["layers"][-1]["positions"]], 1)


_LAYER = "layer"
_FROM_INPUT = "layer (0: the stack's input)"
GRADIENT = Panel(
    "gradient",
    _FROM_INPUT,
    "gradient at the layers' outputs,\nnorm per token",
    _with_input("gradient", lambda layer: layer["positions"][0]["gradient"]),
    "log",
)
INSIDE = Panel(
    "gradient_inside_layer",
    "position (\N{BLACK CIRCLE} after a norm, \N{WHITE CIRCLE} before)",
    "gradient inside the top layer,\nnorm per token",
    _inside,
    "log",
)
PARAMETERS = Panel(
    "parameter_gradient", _LAYER, "gradient of the layers'\nparameters, norm", _by_layer("parameter_gradient"), "log"
)
ANGLE = Panel("angle", _LAYER, "angle between a layer's\ninput and output, degrees", _by_layer("angle"))
CHANGE = Panel("change", _LAYER, "change of a layer's input,\nnorm by norm of the input", _by_layer("change"))
VARIANCE = Panel(
    "variance",
    _FROM_INPUT,
    "variance of\nthe layers' outputs",
    _with_input("variance", lambda layer: layer["input_variance"]),
    "log",
)
PANELS = (GRADIENT, INSIDE, PARAMETERS, ANGLE, CHANGE, VARIANCE)
FILES = [f"{name}.{kind}" for name in (OVERVIEW, SHARED, *(panel.name for panel in PANELS)) for kind in style.KINDS]


def draw(models: Sequence[dict[str, Any]]) -> dict[str, dict[str, bytes]]:
    """Return the figures by name, each as the content of its files by format.

    They are a figure of all panels, a figure of each panel, and one of the shared sets if a model has some.

    Args:
        models: what :func:`~b2t_cli.analysis.measuring.analyze` has returned for each.
    """
    with style.applied():
        drawn = {OVERVIEW: style.files(_figure(PANELS, models))}
        drawn |= {panel.name: style.files(_figure([panel], models)) for panel in PANELS}
        shared = [model for model in models if any(stack["sets"] for stack in model["stacks"].values())]
        if shared:
            drawn[SHARED] = style.files(_shared(shared))
    return drawn


def _figure(panels: Sequence[Panel], models: Sequence[dict]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    stacks = _stacks(models)
    rows = len(models)
    figure = Figure(figsize=(WIDTH * len(stacks), HEIGHT * len(panels) + 0.19 * rows + 0.2), layout="constrained")
    grid = figure.subplots(len(panels), len(stacks), squeeze=False, sharey="row")
    handles, above = [], set()
    for panel, row in zip(panels, grid, strict=True):
        for name, axes in zip(stacks, row, strict=True):
            style.title(axes, name.capitalize())
            handles = [_line(axes, panel, index, model, name) for index, model in enumerate(models)]
            axes.set_xlabel(panel.horizontal)
            axes.set_yscale(panel.scale)
            axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        row[0].set_ylabel(f"{panel.vertical} (log scale)" if panel.scale == "log" else panel.vertical)
        # only when all lines of the row are drawn, because its axes have one common scale
        if panel.scale == "linear":
            row[0].set_ylim(bottom=0)
        else:
            above |= _cut_off(row[0], [_highest(panel, model) for model in models])
    names = [style.shortened(model["name"]) for model in models]
    names = [f"{name} (beyond the axes)" if index in above else name for index, name in enumerate(names)]
    style.legend(figure, handles, names)
    return figure


def _highest(panel: Panel, model: dict) -> float:
    return max((value for stack in model["stacks"].values() for value in _drawable(panel, stack)[1]), default=0.0)


def _cut_off(axes: Axes, highest: Sequence[float]) -> set[int]:
    """Limit logarithmic axes on which an exploding model would flatten the others; return the models beyond them."""
    limit = _FAR * statistics.median(highest)
    beyond = {index for index, value in enumerate(highest) if value > limit > 0}
    if beyond:
        axes.set_ylim(top=3 * max(value for value in highest if value <= limit))
    return beyond


def _line(axes: Axes, panel: Panel, index: int, model: dict, name: str) -> Line2D:
    stack = model["stacks"].get(name)
    numbers, values = _drawable(panel, stack)
    look = style.line(index)
    (line,) = axes.plot(numbers, values, **look, marker="o" if len(numbers) == 1 else None, markersize=4)
    if stack and panel is INSIDE:
        positions = stack["layers"][-1]["positions"]
        for number, value in zip(numbers, values, strict=True):
            marker = _MARKERS.get(positions[number - 1]["where"], _SMALL)
            axes.plot(number, value, **{"markersize": 4.5, **marker}, color=look["color"])
    return line


def _shared(models: Sequence[dict]) -> Figure:
    """Return a figure of the gradient of each layer's part of its parameter set, with a color for each set."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    stacks = _stacks(models)
    figure = Figure(figsize=(WIDTH * len(stacks), HEIGHT * len(models)), layout="constrained")
    grid = figure.subplots(len(models), len(stacks), squeeze=False, sharey="row")
    for model, row in zip(models, grid, strict=True):
        for name, axes in zip(stacks, row, strict=True):
            stack = model["stacks"].get(name)
            if not stack:
                continue
            _bars(axes, stack["layers"])
            cosines = [shared["cosine"] for shared in stack["sets"] if shared["cosine"] is not None]
            mean = f"; mean cosine of uses {sum(cosines) / len(cosines):.2f}" if cosines else ""
            style.title(axes, f"{style.shortened(model['name'], 28)}, {name}")
            axes.set_xlabel(f"layer; above it the set{mean}")
            axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        row[0].set_ylabel("gradient of a layer's use")
    return figure


def _bars(axes: Axes, layers: Sequence[dict]) -> None:
    """Draw the gradient of each layer, with the number of its parameter set above it."""
    for layer in layers:
        color = style.COLORS[layer["set"] % len(style.COLORS)]
        gradient = layer["parameter_gradient"] or 0.0
        axes.bar(layer["layer"], gradient, color=color, width=0.8)
        axes.annotate(str(layer["set"]), (layer["layer"], gradient), ha="center", va="bottom", fontsize=7)


def _stacks(models: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for model in models for name in model["stacks"]))

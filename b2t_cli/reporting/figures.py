"""Curves of runs over their updates, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import style
from ..runs.curves import Curve
from ..runs.run import Run
from .summary import unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH, HEIGHT = 4.6, 2.9


class Plot(NamedTuple):
    """A figure: its file's name, its title, the axis, and what is drawn; a curve has so many points at the most."""

    name: str
    title: str
    axis: str
    column: str
    validation: bool = False
    scale: str = "linear"
    most: int = 300


PLOTS = (
    Plot("training_loss", "Training loss", "", "loss"),
    Plot("validation_loss", "Validation loss", "", "loss", validation=True),
    Plot("learning_rate", "Learning rate", "learning rate", "lr"),
    Plot("gradient_norm", "Gradient norm, before clipping", "norm (log scale)", "gnorm", scale="log", most=120),
    Plot("tokens_per_second", "Speed", "target tokens per second", "wps", most=120),
)


def draw(runs: Sequence[Run]) -> dict[Plot, dict[str, bytes]]:
    """Return the files of each figure that has anything to show, ``{"png": ..., "svg": ...}``."""
    drawn = {}
    with style.applied():
        for plot in PLOTS:
            figure = _figure(plot, runs)
            if figure is not None:
                drawn[plot] = style.files(figure)
    return drawn


def points(curve: Curve, column: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return updates and finite values of a column; if there are more than ``most``, medians over stretches of them."""
    updates, values = curve["update"], curve[column]
    if column == "wps":
        # the device's warming up is in it
        values = np.where(curve["start"] == 1, np.nan, values)
    keep = np.isfinite(values)
    updates, values = updates[keep], values[keep]
    if len(updates) <= most:
        return updates, values
    edges = np.linspace(updates[0], updates[-1], most + 1)[1:-1]
    pieces = np.searchsorted(updates, edges)
    stretches = [
        (np.mean(u), np.median(v))
        for u, v in zip(np.split(updates, pieces), np.split(values, pieces), strict=True)
        if len(u)
    ]
    return tuple(np.array(stretches).T)


def _figure(plot: Plot, runs: Sequence[Run]) -> Figure | None:
    from matplotlib.figure import Figure

    logged = [run.log.validation() if plot.validation else run.log.training() for run in runs]
    curves = [points(curve, plot.column, plot.most) for curve in logged]
    if plot.scale == "log":
        curves = [(updates[values > 0], values[values > 0]) for updates, values in curves]
    shown = [index for index, (updates, _) in enumerate(curves) if len(updates)]
    if not shown:
        return None
    rows = len(shown) if len(runs) > 1 else 0
    figure = Figure(figsize=(WIDTH, HEIGHT + 0.19 * rows), layout="constrained")
    axes = figure.add_subplot()
    handles = [_line(axes, plot, index, runs[index], curves[index]) for index in shown]
    _axes(axes, plot, runs, [curves[index] for index in shown])
    if rows:
        style.legend(figure, handles, [_label(runs[index], plot) for index in shown])
    return figure


def _line(axes: Axes, plot: Plot, index: int, run: Run, curve: tuple[np.ndarray, np.ndarray]) -> Line2D:
    updates, values = curve
    look = style.line(index)
    marker = "o" if len(updates) == 1 else None
    (line,) = axes.plot(updates, values, **look, marker=marker, markersize=4)
    if run.divergence and plot.column == "loss":
        nearest = int(np.argmin(np.abs(updates - run.divergence.update)))
        axes.plot(
            updates[nearest], values[nearest], "x", color=look["color"], markersize=8, markeredgewidth=2, zorder=3
        )
    return line


def _label(run: Run, plot: Plot) -> str:
    name = style.shortened(run.name)
    if not run.divergence:
        return name
    return f"{name} (\u00d7 diverged)" if plot.column == "loss" else f"{name} (diverged)"


def _axes(axes: Axes, plot: Plot, runs: Sequence[Run], curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    style.title(axes, plot.title)
    axes.set_xlabel("updates")
    axes.set_ylabel(plot.axis or _loss_axis(runs))
    axes.set_yscale(plot.scale)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
    axes.set_xlim(0, max(updates[-1] for updates, _ in curves) * 1.02)
    if plot.column == "loss":
        axes.set_ylim(*loss_range(curves))
    elif plot.scale == "linear":
        top = max(np.quantile(values, 0.99) for _, values in curves)
        axes.set_ylim(0, top * 1.08 if top > 0 else 1)
    if plot.column == "lr":
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    elif plot.column == "wps":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))


def loss_range(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the limits of an axis of losses.

    The steep fall in the first twentieth of a run's points is cut off, or the rest would be flat; what a diverged run
    rises to is not, up to twice the highest loss that a run began with.
    """
    low = min(values.min() for _, values in curves)
    high = max(values[len(values) // 20 :].max() for _, values in curves)
    high = min(high, 2 * max(values[0] for _, values in curves))
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _loss_axis(runs: Sequence[Run]) -> str:
    units = {unit(run.log).split(",")[0] for run in runs}
    return f"loss, {units.pop()}" if len(units) == 1 else "loss, bits"


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10000 or (value and value % 1000 == 0) else f"{value:g}"

"""Curves of runs over their updates, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import style
from ..runs.curves import Curve
from ..runs.divergence import DIVERGED
from ..runs.run import Run
from .summary import unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH, HEIGHT = 4.6, 2.9


class Plot(NamedTuple):
    """What a figure shows.

    Attributes:
        name: of the file, without its ending.
        title: above the figure.
        axis: label of the vertical axis; empty for losses, whose unit depends on the runs.
        column: which column of the curves is drawn.
        validation: draw the curves of the validation rather than those of the training.
        scale: of the vertical axis, ``"linear"`` or ``"log"``.
        max_points: a longer curve is drawn as medians over so many intervals.
    """

    name: str
    title: str
    axis: str
    column: str
    validation: bool = False
    scale: str = "linear"
    max_points: int = 300


PLOTS = (
    Plot("training_loss", "Training loss", "", "loss"),
    Plot("validation_loss", "Validation loss", "", "loss", validation=True),
    Plot("validation_bleu", "Validation BLEU", "BLEU", "bleu", validation=True),
    Plot("learning_rate", "Learning rate", "learning rate", "lr"),
    Plot("gradient_norm", "Gradient norm, before clipping", "norm (log scale)", "gnorm", scale="log", max_points=120),
    Plot("tokens_per_second", "Speed", "target tokens per second", "wps", max_points=120),
)


def draw(runs: Sequence[Run]) -> dict[Plot, dict[str, bytes]]:
    """Return each figure for which there are values, as the content of its files by format."""
    drawn = {}
    with style.applied():
        for plot in PLOTS:
            figure = _figure(plot, runs)
            if figure is not None:
                drawn[plot] = style.files(figure)
    return drawn


def points(curve: Curve, column: str, max_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the updates and the finite values of a column, each of shape ``(num_points,)``.

    If there are more than ``max_points``, the updates are divided into so many intervals of equal length, and a point
    is the mean of an interval's updates and the median of its values.
    """
    updates, values = curve["update"], curve[column]
    if column == "wps":
        # the first report after a start includes the warm-up of the device
        values = np.where(curve["start"] == 1, np.nan, values)
    keep = np.isfinite(values)
    updates, values = updates[keep], values[keep]
    if len(updates) <= max_points:
        return updates, values
    borders = np.searchsorted(updates, np.linspace(updates[0], updates[-1], max_points + 1)[1:-1])
    intervals = zip(np.split(updates, borders), np.split(values, borders), strict=True)
    centers = [(np.mean(inside), np.median(numbers)) for inside, numbers in intervals if len(inside)]
    return tuple(np.array(centers).T)


def _figure(plot: Plot, runs: Sequence[Run]) -> Figure | None:
    from matplotlib.figure import Figure

    logged = [run.log.validation() if plot.validation else run.log.training() for run in runs]
    curves = [points(curve, plot.column, plot.max_points) for curve in logged]
    if plot.scale == "log":
        curves = [(updates[values > 0], values[values > 0]) for updates, values in curves]
    shown = [index for index, (updates, _) in enumerate(curves) if len(updates)]
    if not shown:
        return None
    rows = len(shown) if len(runs) > 1 else 0
    figure = Figure(figsize=(WIDTH, HEIGHT + 0.19 * rows), layout="constrained")
    axes = figure.add_subplot()
    handles = [_line(axes, plot, index, runs[index], curves[index]) for index in shown]
    _format_axes(axes, plot, runs, [curves[index] for index in shown])
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
    mark = "\N{MULTIPLICATION SIGN} " if plot.column == "loss" else ""
    return f"{name} ({mark}{DIVERGED})"


def _format_axes(axes: Axes, plot: Plot, runs: Sequence[Run], curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
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

    The first twentieth of the points of each run is not considered: with the steep fall there the rest of the curves
    would look flat.  The rise of a diverged run is shown, up to twice the highest loss at the beginning of a run.

    Args:
        curves: updates and losses of each run.
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
    return f"{value / 1000:g}k" if abs(value) >= 10000 else f"{value:,.10g}"

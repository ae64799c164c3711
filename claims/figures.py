"""Draw the figures of docs/results.md and README.md from the numbers in claims/results.

python -m claims.figures --results DIR      draw those of other runs
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from b2t_cli import style
from b2t_cli.analysis import figures as analysis
from b2t_common.files import write_folder
from b2t_common.names import STACKS
from claims.configurations import LABELS, TITLES
from claims.evidence import RESULTS, Evidence, read
from claims.study import figures as study
from claims.study import records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FIGURES = ("losses.svg", "gradients.svg", "shared.svg", "schemes.svg", *study.FIGURES)
WIDTH, HEIGHT = 3.9, 2.9
LOSSES = (("post_ln_18l", "pre_ln_18l", "b2t_18l"), ("post_ln_6l", "pre_ln_6l", "b2t_6l"))
"""The configurations whose losses are compared: with 18-18 layers, and with 6-6."""
SHARED = (
    "post_ln_6l",
    "admin_6l",
    "universal",
    "sequence_12",
    "cycle_12",
    "cycle_rev_12",
    "cycle_rev_12_low_rate",
    "cycle_rev_18",
    "cycle_rev_18_low_rate",
    "b2t_6l",
    "b2t_cycle_rev_12",
    "b2t_cycle_rev_18",
    "b2t_cycle_rev_18_low_rate",
    "b2t_cycle_rev_36",
)
"""The configurations with about the same number of parameters."""

Curve = Sequence[tuple[float, float]]


def losses(evidence: Evidence) -> Figure:
    """Return validation loss by updates with 18-18 and with 6-6 layers, mean and range over seeds."""
    figure, panels = _side_by_side(2, sharey=True)
    for axes, configs, layers in zip(panels, LOSSES, (18, 6), strict=True):
        style.title(axes, f"{layers}-{layers} layers")
        lines = [
            _mean_and_range(axes, index, [_finite(run["valid_curve"]) for run in evidence.of(config)])
            for index, config in enumerate(configs)
        ]
        axes.set_xlabel("updates")
    panels[0].set_ylabel("validation loss, bits per token")
    style.legend(figure, lines, list(TITLES.values()))
    return figure


def gradients(evidence: Evidence) -> Figure:
    """Return the gradient at the outputs of the layers of new 18-18 models, mean and range over seeds."""
    from matplotlib.ticker import MaxNLocator

    figure, panels = _side_by_side(2, sharey=True)
    models = evidence.models(trained=False)
    for axes, stack in zip(panels, STACKS, strict=True):
        style.title(axes, stack.capitalize())
        lines = []
        for index, seeds in enumerate(models.values()):
            points = [analysis.GRADIENT.points(model["stacks"][stack]) for model in seeds]
            lines.append(_mean_and_range(axes, index, [list(zip(*one, strict=True)) for one in points]))
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        axes.set_xlabel("layer (0: the stack's input)")
    panels[0].set_ylabel("gradient, norm per token (log scale)")
    style.legend(figure, lines, [TITLES[scheme] for scheme in models])
    return figure


def shared(evidence: Evidence) -> Figure:
    """Return the last validation loss of models with about the same number of parameters, a point for each seed."""
    figure, (axes,) = _side_by_side(1)
    configs = [config for config in SHARED if evidence.of(config)]
    for row, config in enumerate(configs):
        values = [loss for loss in evidence.losses(config) if math.isfinite(loss)] or [math.nan]
        axes.plot(values, [row] * len(values), "o", color=style.COLORS[0], markersize=4, alpha=0.7)
        axes.plot([statistics.mean(values)], [row], "|", color=style.INK, markersize=11)
    axes.set_yticks(range(len(configs)), [LABELS[config] for config in configs])
    axes.invert_yaxis()
    axes.set_xlabel("last validation loss, bits per token (bar: mean over seeds)")
    axes.margins(y=0.5 / len(configs))
    style.title(axes, "Models with about the same number of parameters")
    figure.set_size_inches(2 * WIDTH, 0.28 * len(configs) + 0.8)
    return figure


def draw(evidence: Evidence) -> dict[str, bytes]:
    """Return the files by name; a figure is left out if there are no numbers for it."""
    figures = {}
    with style.applied():
        if all(evidence.of(config) for configs in LOSSES for config in configs):
            figures["losses"] = losses(evidence)
        if evidence.gradients:
            figures["gradients"] = gradients(evidence)
        if any(evidence.of(config) for config in SHARED):
            figures["shared"] = shared(evidence)
        files = {f"{name}.svg": style.files(figure)["svg"] for name, figure in figures.items()}
    if evidence.schemes:
        seed = min(model["seed"] for model in evidence.schemes)
        models = [model for model in evidence.schemes if model["seed"] == seed]
        files["schemes.svg"] = analysis.draw(models)[analysis.OVERVIEW]["svg"]
    return files


def _side_by_side(columns: int, **options):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * columns, HEIGHT + 0.5), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False, **options)[0]


def _finite(curve: Sequence[tuple[int, float | None]]) -> list[tuple[int, float]]:
    return [(update, loss) for update, loss in curve if loss is not None]


def _mean_and_range(axes: Axes, index: int, curves: Sequence[Curve]) -> Line2D:
    """Draw the mean and the range of curves, or every curve if one ends before the others.

    Args:
        axes: where to draw.
        index: chooses colour and dashes.
        curves: the points (x, y) of each curve.

    Returns:
        A line for the legend.
    """
    values = [dict(curve) for curve in curves]
    look = style.line(index)
    if len({tuple(one) for one in values}) > 1:
        lines = [axes.plot(list(one), list(one.values()), **look) for one in values]
        return lines[0][0]
    places = list(values[0])
    ys = [[one[place] for one in values] for place in places]
    axes.fill_between(places, list(map(min, ys)), list(map(max, ys)), color=look["color"], alpha=0.2, linewidth=0)
    (line,) = axes.plot(places, list(map(statistics.mean, ys)), **look)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers are, and where figures go")
    args = parser.parse_args()
    write_folder(args.results, draw(read(args.results)) | study.draw(records.read(args.results)), FIGURES)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Draw the figures of docs/results.md and README.md from the numbers in claims/results."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from b2t_cli import style  # noqa: E402
from b2t_cli.analysis import figures  # noqa: E402
from b2t_common.files import write_folder  # noqa: E402
from claims import evidence  # noqa: E402
from claims.configurations import LABELS, TITLES  # noqa: E402
from claims.evidence import Evidence  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = ("losses.svg", "gradients.svg", "shared.svg", "schemes.svg")
WIDTH, HEIGHT = 3.9, 2.9
LOSSES = (("post_ln_18l", "pre_ln_18l", "b2t_18l"), ("post_ln_6l", "pre_ln_6l", "b2t_6l"))
SHARED = (
    *("post_ln_6l", "admin_6l", "universal", "sequence_12", "cycle_12"),
    *("cycle_rev_12", "cycle_rev_12_low_rate", "cycle_rev_18", "cycle_rev_18_low_rate"),
    *("b2t_6l", "b2t_cycle_rev_12", "b2t_cycle_rev_18", "b2t_cycle_rev_18_low_rate", "b2t_cycle_rev_36"),
)


def losses(found: Evidence) -> Figure:
    """Return validation loss by updates at 18-18 and at 6-6 layers, mean and range over seeds."""
    figure, grid = _grid(1, 2, sharey=True)
    for axes, configs, layers in zip(grid[0], LOSSES, (18, 6), strict=True):
        style.title(axes, f"{layers}-{layers} layers")
        lines = [
            _curves(axes, index, [_finite(run["valid_curve"]) for run in found.of(config)])
            for index, config in enumerate(configs)
        ]
        axes.set_xlabel("updates")
    grid[0][0].set_ylabel("validation loss, bits per token")
    style.legend(figure, lines, list(TITLES.values()))
    return figure


def gradients(found: Evidence) -> Figure:
    """Return the gradient at the outputs of the layers of fresh 18-18 models, mean and range over seeds."""
    from matplotlib.ticker import MaxNLocator

    figure, grid = _grid(1, 2, sharey=True)
    models = found.models(trained=False)
    for axes, stack in zip(grid[0], ("encoder", "decoder"), strict=True):
        style.title(axes, stack.capitalize())
        lines = []
        for index, seeds in enumerate(models.values()):
            points = [figures.GRADIENT.points(model["stacks"][stack]) for model in seeds]
            lines.append(_curves(axes, index, [list(zip(*one, strict=True)) for one in points]))
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        axes.set_xlabel("layer (0: the stack's input)")
    grid[0][0].set_ylabel("gradient, norm per token (log scale)")
    style.legend(figure, lines, [TITLES[scheme] for scheme in models])
    return figure


def shared(found: Evidence) -> Figure:
    """Return the last validation loss of each model of about as many parameters, a point for each seed."""
    figure, grid = _grid(1, 1)
    axes = grid[0][0]
    configs = [config for config in SHARED if found.of(config)]
    for row, config in enumerate(configs):
        losses = [loss for loss in found.losses(config) if math.isfinite(loss)] or [math.nan]
        axes.plot(losses, [row] * len(losses), "o", color=style.COLORS[0], markersize=4, alpha=0.7)
        axes.plot([statistics.mean(losses)], [row], "|", color=style.INK, markersize=11)
    axes.set_yticks(range(len(configs)), [LABELS[config] for config in configs])
    axes.invert_yaxis()
    axes.set_xlabel("last validation loss, bits per token (bar: mean over seeds)")
    axes.margins(y=0.5 / len(configs))
    style.title(axes, "About as many parameters, six sets of layers or one")
    figure.set_size_inches(2 * WIDTH, 0.28 * len(configs) + 0.8)
    return figure


def drawn(found: Evidence) -> dict[str, bytes]:
    """Return the files by name; a figure is left out while there are no numbers for it."""
    made = {}
    with style.applied():
        if all(found.of(config) for configs in LOSSES for config in configs):
            made["losses"] = losses(found)
        if found.gradients:
            made["gradients"] = gradients(found)
        if any(found.of(config) for config in SHARED):
            made["shared"] = shared(found)
        files = {f"{name}.svg": style.files(figure)["svg"] for name, figure in made.items()}
    if found.schemes:
        seed = min(model["seed"] for model in found.schemes)
        models = [model for model in found.schemes if model["seed"] == seed]
        files["schemes.svg"] = figures.draw(models)[figures.OVERVIEW]["svg"]
    return files


def _grid(rows: int, columns: int, **options):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _finite(curve: Sequence[tuple[int, float | None]]) -> list[tuple[int, float]]:
    return [(update, loss) for update, loss in curve if loss is not None]


def _curves(axes: Axes, index: int, curves: Sequence[Sequence[tuple[float, float]]]):
    """Draw the mean of curves, and the range of their values; each by itself if one ends before the others."""
    values = [dict(curve) for curve in curves]
    look = style.line(index)
    if len({tuple(one) for one in values}) > 1:
        lines = [axes.plot(list(one), list(one.values()), **look) for one in values]
        return lines[0][0]
    places = list(values[0])
    at = [[one[place] for one in values] for place in places]
    axes.fill_between(places, list(map(min, at)), list(map(max, at)), color=look["color"], alpha=0.2, linewidth=0)
    (line,) = axes.plot(places, list(map(statistics.mean, at)), **look)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=evidence.RESULTS, help="where the numbers are")
    args = parser.parse_args()
    write_folder(args.results, drawn(evidence.read(args.results)), FIGURES)


if __name__ == "__main__":
    main()

"""The figures of the study: learning-rate curves, and the word problem by the length of the words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING

from b2t_cli import style
from b2t_cli.reporting import against
from claims.study import judging, records
from claims.study.grid import DEEP, SHALLOW, WORD_MODELS, WORD_RATES, WORD_UPDATES, WORDS
from claims.study.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("rates.svg", "words.svg")
WIDTH, HEIGHT = 3.9, 3.4
FEWEST = 2
"""A model with fewer rates has no curve yet."""


def rates(done: Sequence[Record]) -> Figure | None:
    """Return loss against learning rate of 18-18 and of 6-6 models, ``None`` as long as no model has a curve."""
    from matplotlib.figure import Figure

    panels = {}
    for title, models in (("18-18 layers", DEEP), ("6-6 layers", SHALLOW)):
        curves = {model.label.split(",")[0]: judging.curve(done, model).losses for model in models}
        panels[title] = {name: losses for name, losses in curves.items() if len(losses) >= FEWEST}
    if not any(panels.values()):
        return None
    figure = Figure(figsize=(WIDTH * 2, HEIGHT + 0.19 * len(DEEP)), layout="constrained")
    # the same scheme has the same look in both
    order = list(dict.fromkeys(model.label.split(",")[0] for model in (*DEEP, *SHALLOW)))
    handles = {}
    for axes, (title, curves) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        style.title(axes, f"{title} (\N{MULTIPLICATION SIGN}: failed)")
        axes.set_xlabel("peak learning rate")
        if curves:
            handles |= against.plot(axes, curves, [order.index(name) for name in curves])
    figure.axes[0].set_ylabel("last validation loss, bits per token")
    style.legend(figure, list(handles.values()), list(handles))
    return figure


def words(done: Sequence[Record]) -> Figure | None:
    """Return exact match by the length of the words at the better rate of each model, ``None`` if nothing is run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * 2, HEIGHT + 0.19 * len(WORD_MODELS)), layout="constrained")
    axes = figure.add_subplot()
    style.title(axes, "Word problem over the permutations of five things")
    handles = {}
    for index, model in enumerate(WORD_MODELS):
        runs = [one for one in records.of(done, model.name, WORD_UPDATES, WORDS) if one.get("exact")]
        by_rate = [[one["exact"] for one in runs if one["rate"] == rate] for rate in WORD_RATES]
        curves = [_mean(seeds) for seeds in by_rate if seeds]
        if curves:
            best = max(curves, key=lambda curve: mean(curve.values()))
            (handles[model.label],) = axes.plot(list(best), list(best.values()), **style.line(index))
    if not handles:
        return None
    axes.set_xlabel("generators in the word, k")
    axes.set_ylabel("share of products found")
    axes.set_ylim(-0.02, 1.02)
    style.legend(figure, list(handles.values()), list(handles))
    return figure


def _mean(seeds: Sequence[dict[str, float]]) -> dict[int, float]:
    return {int(length): mean(one[length] for one in seeds) for length in seeds[0]}


def draw(done: Sequence[Record]) -> dict[str, bytes]:
    """Return the files by name; a figure is left out if there are no numbers for it."""
    with style.applied():
        figures = {"rates.svg": rates(done), "words.svg": words(done)}
        return {name: style.files(figure)["svg"] for name, figure in figures.items() if figure is not None}

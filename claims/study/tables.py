"""The tables of the study in docs/results.md, from the numbers in claims/results/study.json.

python -m claims.study.tables --results DIR      print the tables of other runs
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from b2t_cli.tables import markdown_table
from claims.evidence import RESULTS, mean_and_range
from claims.study import grid, judging, records
from claims.study.grid import CURVES, SHARED, UNSHARED, UPDATES, WORD_MODELS, WORD_RATES, WORD_UPDATES, WORDS, Model
from claims.study.judging import NOT_RUN, Curve
from claims.study.records import Record

MODELS = (*CURVES, *SHARED, UNSHARED[-1])
"""The models that have a learning-rate curve."""
NOTHING = "Not run yet."
LENGTHS = ((1, 4), (5, 8), (9, 16), (17, 32))
"""Lengths of words that one column of the table of the word problem has."""


def so_far(done: Sequence[Record]) -> str:
    """Return how much of the study is run, as a sentence without its full stop."""
    share = sum(one["layers"]["encoder"] * one["done"] for one in done) / sum(grid.planned_costs().values())
    count = "1 run is" if len(done) == 1 else f"{len(done)} runs are"
    return f"{count} done, about {share:.0%} of the study"


def progress(done: Sequence[Record]) -> str:
    """Return how much of the study is run, on what, and at which commits."""
    if not done:
        return f"{so_far(done)}."
    hours = sum(one["minutes"] for one in done) / 60
    values = {
        key: ", ".join(sorted({one[key] for one in done})) for key in ("hardware", "torch", "python", "commit", "date")
    }
    return (
        f"{so_far(done)}: {hours:.1f} hours of training, beside other work, each run on {values['hardware']}; "
        f"torch {values['torch']}, Python {values['python']}; commit {values['commit']}; {values['date']}."
    )


def curves_table(done: Sequence[Record]) -> str:
    """Return the loss of each model at each rate with the first seed, and the models of which no run is done."""
    return _curves(done, MODELS)


def warmup_table(done: Sequence[Record]) -> str:
    """Return the same for the models whose learning rate rises slowly, below those that they are compared with."""
    if not any(judging.curve(done, slow).runs for slow in grid.SLOW.values()):
        return NOTHING
    return _curves(done, [model for pair in grid.SLOW.items() for model in pair])


def _curves(done: Sequence[Record], models: Sequence[Model]) -> str:
    curves = [judging.curve(done, model) for model in models]
    if not any(curve.runs for curve in curves):
        return NOTHING
    rates = sorted({*map(float, grid.RATES), *(rate for curve in curves for rate in curve.losses)})
    rows = [[curve.model.label, *_cells(curve, rates)] for curve in curves if curve.runs]
    table = markdown_table(["model", *(f"{rate:g}" for rate in rates)], rows, "l" + "r" * len(rates))
    return _with_the_others(table, [curve.model.label for curve in curves if not curve.runs])


def _with_the_others(table: str, not_run: Sequence[str]) -> str:
    """Return a table and, below it, the names of what has no row in it."""
    return f"{table}\n\nNot run yet: {'; '.join(not_run)}." if not_run else table


def _cells(curve: Curve, rates: Sequence[float]) -> list[str]:
    planned = {*map(float, grid.rates_of(curve.model))}
    cells = []
    for rate in rates:
        if rate in curve.losses:
            (loss,) = curve.losses[rate]
            cells.append(f"{loss:.3f}" if math.isfinite(loss) else "failed")
        else:
            cells.append(NOT_RUN if rate in planned else "")
    return cells


def tuned_table(done: Sequence[Record]) -> str:
    """Return each model at its best rate: loss, gap to the best model of its depth, and how much the rate matters."""
    curves = [judging.curve(done, model) for model in MODELS]
    if not any(curve.runs for curve in curves):
        return NOTHING
    best = best_losses(done)
    header = ["model", "best rate", "loss", "above the best", "within 0.1 bit", "sensitivity", "clipped", "failed"]
    rows = [_tuned_row(curve, best.get(curve.model.layers)) for curve in curves if curve.runs]
    return markdown_table(header, rows, "lrrrrrrr")


def _tuned_row(curve: Curve, best: float | None) -> list[str]:
    failed = judging.count(curve.failed, len(curve.runs))
    if not curve.inside or curve.tuned is None or best is None:
        why = "fails at every rate" if curve.complete and curve.tuned is None else NOT_RUN
        return [curve.model.label, why, "", "", "", "", "", failed]
    tuned, runs = curve.tuned, curve.at_best()
    return [
        curve.model.label,
        f"{tuned.best:g}",
        mean_and_range([one["loss"] for one in runs]),
        f"{tuned.loss - best:.3f}",
        f"{tuned.window[0]:g} to {tuned.window[1]:g}",
        f"{tuned.sensitivity:.3f}",
        clipped(curve),
        failed,
    ]


def best_losses(done: Sequence[Record]) -> dict[int, float]:
    """Return the lowest loss of all models at their best rates, by the number of layers of a stack."""
    curves = [judging.curve(done, model) for model in MODELS]
    best: dict[int, float] = {}
    for curve in curves:
        if curve.inside and curve.tuned:
            layers = curve.model.layers
            best[layers] = min(curve.tuned.loss, best.get(layers, math.inf))
    return best


def clipped(curve: Curve) -> str:
    """Return the share of clipped updates at a model's best rate, mean over the seeds."""
    shares = [one["clipped"] for one in curve.at_best() if one["clipped"] is not None]
    return f"{mean(shares):.0%}" if shares else "-"


def beside(done: Sequence[Record], models: Sequence[Model]) -> str:
    """Return what stands beside a verdict for each of its models at its best rate (rule 6), ``-`` without any."""
    best = best_losses(done)
    parts = []
    for curve in (judging.curve(done, model) for model in models):
        if curve.inside and curve.tuned:
            low, high = curve.tuned.window
            gap = curve.tuned.loss - best[curve.model.layers]
            parts.append(f"{curve.model.label}: {gap:+.3f}, {low:g} to {high:g}, {clipped(curve)} clipped")
    return "; ".join(parts) or "-"


def longer_table(done: Sequence[Record]) -> str:
    """Return the losses after 2,000 and 8,000 updates at the best rate, with the first seed."""
    if all(judging.longer(done, model) is None for model in grid.LONGER):
        return NOTHING
    rows = []
    for model in grid.LONGER:
        curve = judging.curve(done, model)
        short = f"{curve.tuned.loss:.3f}" if curve.inside and curve.tuned else NOT_RUN
        long = judging.longer(done, model)
        rows.append([model.label, short, NOT_RUN if long is None else f"{long:.3f}"])
    return markdown_table(["model", f"{UPDATES:,} updates", f"{grid.MORE_UPDATES:,} updates"], rows, "lrr")


def words_table(done: Sequence[Record]) -> str:
    """Return the shares of the products that each model finds, by the length of the words, mean over the seeds."""
    if not any(one["task"] == WORDS for one in done):
        return NOTHING
    rows, others = [], []
    for model in WORD_MODELS:
        for rate in WORD_RATES:
            runs = [
                one
                for one in records.of(done, model.name, WORD_UPDATES, WORDS)
                if one["rate"] == rate and one.get("exact")
            ]
            if runs:
                rows.append([model.label, rate, str(len(runs)), *(_share(runs, *k) for k in LENGTHS)])
            else:
                others.append(f"{model.label} at {rate}")
    header = ["model", "rate", "seeds", *(f"k = {low} to {high}" for low, high in LENGTHS)]
    return _with_the_others(markdown_table(header, rows, "lr" + "r" * (len(LENGTHS) + 1)), others)


def _share(runs: Sequence[Record], low: int, high: int) -> str:
    return f"{mean(one['exact'][str(length)] for one in runs for length in range(low, high + 1)):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers are")
    done = records.read(parser.parse_args().results)
    shown = (progress, curves_table, tuned_table, warmup_table, longer_table, words_table)
    print("\n\n".join(table(done) for table in shown))


if __name__ == "__main__":
    main()

"""The tables of a report: what runs are and how they are getting on, and their scores beside the papers'."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..runs.curves import Log
from ..runs.run import Run
from ..scoring.layout import millions, of_both_stacks, score_table
from ..tables import Table

HEADER = [
    *("run", "state", "scheme", "sharing", "N", "M", "parameters", "updates"),
    *("loss", "valid loss", "valid ppl", "tokens/s", "BLEU"),
]


def table(runs: Sequence[Run]) -> Table:
    """Return one row per run; a cell is empty where the run's files do not tell."""
    notes = [
        f"{run.name}: diverged at update {run.divergence.update:,}: {run.divergence.reason}"
        for run in runs
        if run.divergence
    ]
    notes += [f"{run.name}: {run.log.error}" for run in runs if run.log.error and not run.divergence]
    notes.append(f"losses: {', '.join(dict.fromkeys(unit(run.log) for run in runs))}; loss: the last one in training")
    notes.append("valid loss: the lowest one, valid ppl: 2 ** nll_loss of that validation, without label smoothing")
    notes.append("tokens/s: median of the target tokens per second; BLEU: average over newstest2010 to newstest2016")
    return Table("Runs", HEADER, [_row(run) for run in runs], notes, left=4)


def unit(log: Log) -> str:
    """Return what fairseq's ``loss`` is measured in: it divides by the number of tokens and by ln 2."""
    per = "sentence" if log.sentence_avg else "target token"
    smoothing = f", label smoothing {log.label_smoothing:g} included" if log.label_smoothing else ""
    return f"bits per {per}{smoothing}"


def score_tables(runs: Sequence[Run]) -> list[Table]:
    """Return the scores on the test sets, one table per language pair, with the papers' results of the same models."""
    pairs: dict[str, list[dict]] = {}
    for run in runs:
        if run.scores:
            pairs.setdefault(run.scores["language_pair"], []).append({**run.scores, "run": run.name})
    return [score_table(scores, matching_only=True) for scores in pairs.values()]


def _row(run: Run) -> list[str]:
    best = run.best()
    average = (run.scores or {}).get("average")
    of = f" of {run.log.max_update:,}" if run.log.max_update else ""
    return [
        *(run.name, run.state(), run.model.scheme, run.model.sharing),
        *(of_both_stacks(run.model.layers), of_both_stacks(run.model.unique_layers)),
        _size(run.model.parameters),
        f"{run.updates():,}{of}",
        _decimals(run.log.training().last("loss"), 3),
        _decimals(best["loss"] if best else None, 3),
        _decimals(best["ppl"] if best else None, 2),
        f"{run.speed():,.0f}" if run.speed() else "",
        _decimals(average["BLEU"] if average else None, 2),
    ]


def _size(parameters: int | None) -> str:
    if parameters is None:
        return ""
    return f"{parameters:,}" if parameters < 1e5 else millions(parameters)


def _decimals(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else "not finite"

"""The tables of a report: models and states of the runs, and their scores beside those of the papers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..runs.curves import Log
from ..runs.run import Run
from ..scoring.layout import millions, of_both_stacks
from ..scoring.score_tables import has_own_sets, score_table
from ..tables import Table


def table(runs: Sequence[Run]) -> Table:
    """Return one row per run; a cell is empty if the files of the run do not have the value.

    The column of BLEU in validation is there only if some run has it.
    """
    rows = [cells(run) for run in runs]
    shown_bleu = any(row["valid BLEU"] for row in rows)
    if not shown_bleu:
        for row in rows:
            del row["valid BLEU"]
    notes = [
        f"{run.name}: diverged at update {run.divergence.update:,}: {run.divergence.reason}"
        for run in runs
        if run.divergence
    ]
    notes += [f"{run.name}: {run.log.error}" for run in runs if run.log.error and not run.divergence]
    notes += [
        f"{run.name}: {run.log.unread:,} lines with num_updates in {run.path} were not understood"
        for run in runs
        if run.log.unread
    ]
    notes += [
        f"{run.name}: {run.path} has no reports of updates, so its curve has one point for each epoch; train with "
        "--log-format simple and a smaller --log-interval"
        for run in runs
        if len(run.log.epochs) and not len(run.log.train)
    ]
    notes.append(f"losses: {', '.join(dict.fromkeys(unit(run.log) for run in runs))}; loss: the last one in training")
    notes.append("valid loss: the lowest one, valid ppl: 2 ** nll_loss of that validation, without label smoothing")
    if shown_bleu:
        notes.append("valid BLEU: the highest one of --eval-bleu")
    notes.append("clipped: the share of the updates whose gradient was longer than --clip-norm")
    notes.append("tokens/s: median of the target tokens per second; BLEU: of text, average over all test sets")
    return Table("Runs", list(rows[0]), [list(row.values()) for row in rows], notes, left=4)


def cells(run: Run) -> dict[str, str]:
    """Return the row of a run, by column."""
    best = run.best()
    average = (run.scores or {}).get("average")
    planned = f" of {run.log.max_update:,}" if run.log.max_update else ""
    return {
        "run": run.name,
        "state": run.state(),
        "scheme": run.model.scheme,
        "sharing": run.model.sharing,
        "N": of_both_stacks(run.model.layers),
        "M": of_both_stacks(run.model.unique_layers),
        "parameters": _size(run.model.parameters),
        "updates": f"{run.updates():,}{planned}",
        "loss": _decimals(run.log.training().last("loss"), 3),
        "valid loss": _decimals(best["loss"] if best else None, 3),
        "valid ppl": _decimals(best["ppl"] if best else None, 2),
        "valid BLEU": _decimals(run.best_bleu(), 2),
        "clipped": "" if (clipped := run.clipped()) is None else f"{clipped:.0%}",
        "tokens/s": f"{run.speed():,.0f}" if run.speed() else "",
        "BLEU": _decimals(average["BLEU"] if average else None, 2),
    }


def unit(log: Log) -> str:
    """Return the unit of fairseq's ``loss``, which is divided by the number of tokens and by ln 2."""
    per = "sentence" if log.sentence_avg else "target token"
    smoothing = f", label smoothing {log.label_smoothing:g} included" if log.label_smoothing else ""
    return f"bits per {per}{smoothing}"


def score_tables(runs: Sequence[Run]) -> list[Table]:
    """Return the scores, one table per language pair and kind of sets, with the papers' results of the same models."""
    groups: dict[tuple[str, bool], list[dict]] = {}
    for run in runs:
        if run.scores:
            kind = run.scores["language_pair"], has_own_sets(run.scores)
            groups.setdefault(kind, []).append({**run.scores, "run": run.name})
    return [score_table(scores, matching_only=True) for scores in groups.values()]


def _size(parameters: int | None) -> str:
    if parameters is None:
        return ""
    return f"{parameters:,}" if parameters < 1e5 else millions(parameters)


def _decimals(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else "not finite"

"""The table of ``b2t score`` for test sets that came with the data: a column for each metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tables import RULE, Table, number
from . import published
from .layout import describe_match, describe_run, list_signatures, millions, of_both_stacks
from .published import TOKENIZED

COLUMNS = (TOKENIZED, "BLEU", "chrF2")


def own_score_table(runs: Sequence[dict[str, Any]], matching_only: bool = False) -> Table:
    """Return the scores of runs on the test sets of their data, with the papers' results on IWSLT14 below them.

    Tokenized BLEU and BLEU of text have columns of their own, since their numbers cannot be compared.

    Args:
        runs: the content of ``scores.json`` of each run.
        matching_only: show only those results of the papers that have the settings of a run.
    """
    matches = [(run, match) for run in runs for match in run["published"]]
    matched = [match["row"] for _, match in matches]
    names = list(dict.fromkeys(name for run in runs for name in run["sets"]))
    papers = published.results(published.IWSLT14) if published.is_iwslt14(names) else []
    if matching_only:
        papers = [row for row in papers if row in matched]
    columns = _columns(runs)
    rows = [cells for run in runs for cells in _run_rows(run, columns)] + ([RULE] if papers else [])
    rows += [_paper_row(row, row in matched, columns) for row in papers]
    notes = [describe_run(run) for run in runs] + [_match(run, match) for run, match in matches]
    notes += list_signatures(runs)
    if papers:
        notes.append(f"papers: {published.about(published.IWSLT14)}")
    header = ["system", "test set", "source", "M", "N", "parameters", *columns]
    return Table(f"{', '.join(names)}, {runs[0]['language_pair']}", header, rows, notes, left=3)


def _columns(runs: Sequence[dict[str, Any]]) -> list[str]:
    metrics = [metric for run in runs for scored in run["sets"].values() for metric in scored["metrics"]]
    return list(dict.fromkeys([*COLUMNS, *metrics]))


def _run_rows(run: dict[str, Any], columns: Sequence[str]) -> list[list[str]]:
    """Return one row per test set; only the first names the run and its model."""
    rows: list[list[str]] = []
    for name, scored in run["sets"].items():
        sizes = [of_both_stacks(run["unique_layers"]), of_both_stacks(run["layers"]), millions(run["parameters"])]
        first, here, model = ("", "", [""] * 3) if rows else (run["run"], "here", sizes)
        scores = [scored["metrics"].get(metric, {}).get("score") for metric in columns]
        rows.append([first, name, here, *model, *map(number, scores)])
    return rows


def _paper_row(row: dict[str, Any], is_match: bool, columns: Sequence[str]) -> list[str]:
    name = row["model"] + (" *" if is_match else "")
    scores = [row["tokenized_bleu"] if metric == TOKENIZED else None for metric in columns]
    sizes = [str(row["unique_layers"]), str(row["layers"]), "-"]
    return [name, published.IWSLT14, f"arXiv {row['arxiv']}", *sizes, *map(number, scores)]


def _match(run: dict[str, Any], match: dict[str, Any]) -> str:
    here = (run["average"] or {}).get(TOKENIZED)
    return describe_match(run, match, TOKENIZED, (match["row"].get("tokenized_bleu"), here))

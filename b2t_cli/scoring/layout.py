"""The tables of ``b2t score``: runs and the papers' results, and runs compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from b2t_common.model_line import sharing_flags

from ..tables import RULE, Table, number
from . import published
from .newstest import NEWSTESTS, PAPERS_PAIR

YEARS = [name.removeprefix("newstest") for name in NEWSTESTS]


def newstest_score_table(runs: Sequence[dict[str, Any]], matching_only: bool = False) -> Table:
    """Return the scores of runs, with the papers' results below them.

    A result of the papers that has the settings of a run is marked, and a note gives the difference of the averages.

    Args:
        runs: the content of ``scores.json`` of each run.
        matching_only: show only those results of the papers that have the settings of a run.
    """
    pair = runs[0]["language_pair"]
    matches = [(run, match) for run in runs for match in run["published"]]
    matched = [match["row"] for _, match in matches]
    papers = published.results() if pair == PAPERS_PAIR else []
    papers += [row for row in published.results("averages") if row in matched]
    if matching_only:
        papers = [row for row in papers if row in matched]
    rows = [cells for run in runs for cells in _run_rows(run)] + ([RULE] if papers else [])
    rows += [_paper_row(row, row in matched) for row in papers]
    notes = [describe_run(run) for run in runs] + [_match(run, match) for run, match in matches] + list_signatures(runs)
    if papers:
        notes.append(f"papers: {published.about()}")
    header = ["system", "metric", "source", "M", "N", "parameters", *YEARS, "average"]
    return Table(f"newstest2010 to newstest2016, {pair}", header, rows, notes, left=3)


def _paper_row(row: dict[str, Any], is_match: bool) -> list[str]:
    scores = row.get("bleu", [None] * len(YEARS))
    size = row.get("parameters_in_millions")
    return [
        row["model"] + (" *" if is_match else ""),
        "BLEU",
        f"arXiv {row['arxiv']}",
        str(row["unique_layers"]),
        str(row["layers"]),
        f"{size}M" if size else "-",
        *map(number, [*scores, row["average"]]),
    ]


def _run_rows(run: dict[str, Any]) -> list[list[str]]:
    """Return one row per metric; only the first names the run and its model."""
    rows: list[list[str]] = []
    for metric in next(iter(run["sets"].values()))["metrics"]:
        scale, label = (100, "COMET x100") if metric == "COMET" else (1, metric)
        scores = [run["sets"][name]["metrics"][metric]["score"] if name in run["sets"] else None for name in NEWSTESTS]
        scores.append(run["average"] and run["average"][metric])
        sizes = [of_both_stacks(run["unique_layers"]), of_both_stacks(run["layers"]), millions(run["parameters"])]
        model = [""] * 3 if rows else sizes
        cells = [number(None if score is None else scale * score) for score in scores]
        rows.append(["" if rows else run["run"], label, "" if rows else "here", *model, *cells])
    return rows


def describe_run(run: dict[str, Any]) -> str:
    """Return the sentence that says what model a run has, and which test sets it lacks."""
    # fairseq's own transformer has neither of the two
    flags = [("--residual", run["settings"].get("residual")), ("--layer-sharing", sharing_flags(run["settings"]))]
    model = " ".join(f"{name} {value}" for name, value in flags if value) or "fairseq's transformer"
    missing = f"; no average: {', '.join(run['missing'])} missing" if run["missing"] else ""
    return f"{run['run']}: {model}, {run['parameters']:,} parameters{missing}"


def describe_match(
    run: dict[str, Any], match: dict[str, Any], metric: str, scores: tuple[float | None, float | None]
) -> str:
    """Return the sentence that says which result of the papers has the settings of a run, and how its score differs.

    Args:
        run: the run.
        match: the result, and the difference of the scores; ``None`` if they cannot be compared.
        metric: what the sentence calls the score.
        scores: that of the papers, and that of the run.
    """
    row, difference = match["row"], match["difference"]
    note = f"* {row['model']} has the settings of {run['run']}"
    if difference is not None:
        there, here = map(number, scores)
        note += f": {metric} {there} there, {here} here, difference {number(difference, '+')}"
    return note + (f"; {row['note']}" if "note" in row else "")


def _match(run: dict[str, Any], match: dict[str, Any]) -> str:
    here = (run["average"] or {}).get("BLEU")
    return describe_match(run, match, "average", (match["row"].get("average"), here))


def list_signatures(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return how the scores of runs were measured: a line for each metric with its settings."""
    sets: dict[str, list[str]] = {}
    for run in runs:
        for scored in run["sets"].values():
            for metric, result in scored["metrics"].items():
                names = sets.setdefault(f"{metric}|{result['signature']}", [])
                names += [scored["sacrebleu"]] if scored["sacrebleu"] not in names else []
    return [f"{signature} on {', '.join(names)}" for signature, names in sets.items()]


def bootstrap_table(tests: dict[str, Any], samples: int) -> Table:
    """Return the table of a comparison of runs.

    Args:
        tests: what :func:`~b2t_cli.scoring.significance.paired_bootstrap` has returned.
        samples: how often the sentences were resampled.
    """
    rows: list[list[str]] = []
    signatures: dict[str, None] = {}
    for name, metrics in tests.items():
        rows += [RULE] if rows else []
        for metric, test in metrics.items():
            signatures[f"{metric}|{test['signature']}"] = None
            for index, run in enumerate(test["runs"]):
                interval = f"{number(run['mean'])} ± {number(run['ci'])}"
                against = [number(run["difference"], "+"), _p_value(run["p_value"])] if index else ["", ""]
                rows.append([name, metric, run["run"], number(run["score"]), interval, *against])
    header = ["test set", "metric", "system", "score", "mean ± 95% CI", "difference", "p"]
    notes = [
        f"paired bootstrap resampling, {samples} samples; differences are to the first system of each group; "
        "* p < 0.05, not corrected for the number of comparisons",
        *signatures,
    ]
    return Table("Paired bootstrap against the first run", header, rows, notes, left=3)


def _p_value(p_value: float | None) -> str:
    return "identical" if p_value is None else f"{p_value:.4f}{'*' if p_value < 0.05 else ' '}"


def of_both_stacks(numbers: dict[str, int]) -> str:
    """Return the number if both stacks have the same, otherwise encoder-decoder, as in 12-6."""
    return "-".join(map(str, dict.fromkeys(numbers.values())))


def millions(parameters: int) -> str:
    """Return 60927488 as 60.9M."""
    return f"{parameters / 1e6:.1f}M"

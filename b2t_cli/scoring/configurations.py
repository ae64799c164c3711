"""Configurations side by side, each over its seeds: the rows of ``b2t table``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.scripts import script_command

from ..runs.divergence import DIVERGED
from ..runs.run import read
from ..tables import Table, labels, number
from .layout import YEARS, millions
from .newstest import NEWSTESTS
from .published import TOKENIZED
from .score_tables import has_own_sets


@dataclass
class Outcome:
    """What came out of one run: its scores, empty if it has none for the reason ``fault``, and its logged speeds."""

    folder: Path
    name: str
    scores: dict[str, Any] = field(default_factory=dict)
    speeds: list[float] = field(default_factory=list)
    fault: str = ""


def compare(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return a row for each configuration, see :func:`summarize`, with its ``relative_speed`` to the first one.

    Args:
        folders: the runs' folders, each counted once.

    Raises:
        InputError: one of them is missing or damaged, or runs that do not belong together are in one row or table.
    """
    groups: dict[Path, list[Outcome]] = {}
    by_path = {os.path.abspath(folder): folder for folder in folders}
    for (path, folder), name in zip(by_path.items(), labels(by_path, 2), strict=True):
        groups.setdefault(_configuration(Path(path)), []).append(read_run(folder, name))
    everything = [run for runs in groups.values() for run in runs]
    _refuse_mixed_scores(everything)
    own = _own_names(everything)
    rows = [summarize(name, runs, own) for name, runs in zip(labels(groups), groups.values(), strict=True)]
    reference = rows[0]["words_per_second"]
    for row in rows:
        speed = row["words_per_second"]
        row["relative_speed"] = speed / reference if speed and reference else None
    return rows


def read_run(folder: Path, name: str) -> Outcome:
    """Read the scores and the log of a run.  Whether it has diverged is decided as in ``b2t report``.

    Args:
        folder: the run's folder.
        name: what the table calls it.

    Raises:
        InputError: there is no such folder, or its scores are damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run")
    path = folder / run_folder.LOG
    if not path.is_file():
        return Outcome(folder, name, fault=f"no {path.name}, where training is logged with --log-format simple")
    run = read(name, path, folder)
    if not len(run.log.training()):
        fault = f"{path} has no report of a loss; train with --log-format simple and a smaller --log-interval"
        return Outcome(folder, name, fault=fault)
    speeds = run.log.speeds().tolist()
    if run.divergence:
        return Outcome(folder, name, speeds=speeds, fault=DIVERGED)
    fault = "" if run.scores else f"no scores; make them with {script_command('evaluate.sh', folder)}"
    return Outcome(folder, name, run.scores or {}, speeds, fault)


def summarize(name: str, runs: list[Outcome], own: Sequence[str] = ()) -> dict[str, Any]:
    """Return the row of a configuration.

    Args:
        name: the configuration.
        runs: its runs.
        own: the names of the test sets, if they came with the data; then there is tokenized BLEU too.

    Raises:
        InputError: its runs are of different models.
    """
    scored = [run for run in runs if run.scores]
    for run in scored[1:]:
        _refuse_other_model(scored[0], run)
    averages = [run.scores["average"] for run in scored]
    speeds = [speed for run in runs for speed in run.speeds]
    return {
        "configuration": name,
        "runs": [run.name for run in runs],
        "diverged": [run.name for run in runs if run.fault == DIVERGED],
        "failed": {run.name: run.fault for run in runs if run.fault not in ("", DIVERGED)},
        "missing": {run.name: run.scores["missing"] for run in scored if run.scores["missing"]},
        "parameters": scored[0].scores["parameters"] if scored else None,
        "words_per_second": median(speeds) if speeds else None,
        "bleu": _by_set(scored, own or NEWSTESTS, "BLEU"),
        "average": _spread([average and average["BLEU"] for average in averages]),
        **({"tokenized_bleu": _by_set(scored, own, TOKENIZED)} if own else {}),
    }


def build_table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of configurations.

    Args:
        rows: what :func:`compare` has returned.
    """
    tokenized, names = "tokenized_bleu" in rows[0], list(rows[0]["bleu"])
    sets = ", ".join(names) if tokenized else f"{names[0]} to {names[-1]}"
    title = f"BLEU on {sets}: mean ± sample standard deviation over seeds"
    columns = [*YEARS, "average"]
    if tokenized:
        columns = [f"{name} {metric}" for metric in (TOKENIZED, "BLEU") for name in names]
    header = ["configuration", "seeds", "parameters", "speed", *columns]
    speed = (
        f"speed: median of the target tokens per second in {run_folder.LOG}, relative to {rows[0]['configuration']}; "
        "comparable only on one kind of machine"
    )
    notes = [note for row in rows for note in _notes(row)]
    return Table(title, header, [_cells(row) for row in rows], [*notes, speed])


def _cells(row: dict[str, Any]) -> list[str]:
    seeds, left_out = len(row["runs"]), len(row["diverged"]) + len(row["failed"])
    tokenized = row.get("tokenized_bleu")
    last = [] if tokenized else [row["average"]]
    scores = [_show(score) for score in (*(tokenized or {}).values(), *row["bleu"].values(), *last)]
    if left_out == seeds:
        scores = ["failed" if row["failed"] else DIVERGED] * len(scores)
    return [
        row["configuration"],
        f"{seeds - left_out} of {seeds}" if left_out else str(seeds),
        millions(row["parameters"]) if row["parameters"] else "-",
        number(row["relative_speed"]),
        *scores,
    ]


def _notes(row: dict[str, Any]) -> list[str]:
    notes = []
    if 0 < len(row["diverged"]) < len(row["runs"]):
        notes.append(f"{row['configuration']}: diverged and left out: {', '.join(row['diverged'])}")
    notes += [f"{run} left out: {fault}" for run, fault in row["failed"].items()]
    return notes + [f"{run}: {', '.join(missing)} missing" for run, missing in row["missing"].items()]


def _configuration(folder: Path) -> Path:
    """Return the folder of a run without the part that names the seed."""
    name = re.sub(r"[-_.]?seed[-_.=]?\d+$", "", folder.name)
    return folder.parent / name if name else folder.parent


def _refuse_other_model(first: Outcome, run: Outcome) -> None:
    ours, theirs = ({"parameters": r.scores["parameters"], **r.scores["settings"]} for r in (first, run))
    # an earlier version did not have all settings; fairseq's own models have no scheme
    for name in sorted(ours.keys() & theirs.keys() | {"residual"}):
        if ours.get(name) != theirs.get(name):
            raise InputError(
                f"{run.folder} is not another seed of {first.folder}: {name} is {theirs.get(name)} there and "
                f"{ours.get(name)} in the first; put them into folders of their own"
            )


def _by_set(runs: list[Outcome], names: Iterable[str], metric: str) -> dict[str, Any]:
    results = {name: [run.scores["sets"].get(name) for run in runs] for name in names}
    return {
        name: _spread([result and result["metrics"][metric]["score"] for result in found])
        for name, found in results.items()
    }


def _own_names(runs: list[Outcome]) -> list[str]:
    """Return the names of the test sets that came with the data of the runs, none if these are scored on newstest.

    Raises:
        InputError: some are scored on the one, some on the other.
    """
    scored = [run for run in runs if run.scores]
    for run in scored:
        if has_own_sets(run.scores) != has_own_sets(scored[0].scores):
            raise InputError(
                f"{run.folder} and {scored[0].folder} are scored on different test sets; make a table of each"
            )
    own = [run.scores for run in scored if has_own_sets(run.scores)]
    return list(dict.fromkeys(name for scores in own for name in [*scores["sets"], *scores["missing"]]))


def _refuse_mixed_scores(runs: list[Outcome]) -> None:
    known: dict[str, tuple[str, Path]] = {}
    for run in runs:
        for name, test_set in run.scores.get("sets", {}).items():
            signature = f"{test_set['metrics']['BLEU']['signature']} {run.scores['language_pair']}"
            first = known.setdefault(name, (signature, run.folder))
            if signature != first[0]:
                raise InputError(
                    f"{name} is scored as {signature} in {run.folder}, but as {first[0]} in {first[1]}; "
                    "score them again with one version"
                )


def _spread(values: list[float | None]) -> dict[str, Any] | None:
    """Return mean and standard deviation over seeds, ``None`` if a seed has no value.

    A mean over fewer seeds could not be compared with those of the other columns.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"values": known, "mean": mean(known), "std": stdev(known) if len(known) > 1 else None}


def _show(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return number(None)
    if spread["std"] is None:
        return number(spread["mean"])
    return f"{number(spread['mean'])} ± {number(spread['std'])}"

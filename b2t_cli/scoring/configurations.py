"""Configurations side by side, each over its seeds: the rows of ``b2t table``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
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
    _refuse_mixed_scores([run for runs in groups.values() for run in runs])
    rows = [summarize(name, runs) for name, runs in zip(labels(groups), groups.values(), strict=True)]
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


def summarize(name: str, runs: list[Outcome]) -> dict[str, Any]:
    """Return the row of a configuration.

    Raises:
        InputError: its runs are of different models.
    """
    scored = [run for run in runs if run.scores]
    for run in scored[1:]:
        _refuse_other_model(scored[0], run)
    bleu = {}
    for test_set in NEWSTESTS:
        results = [run.scores["sets"].get(test_set) for run in scored]
        bleu[test_set] = _spread([result and result["metrics"]["BLEU"]["score"] for result in results])
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
        "bleu": bleu,
        "average": _spread([average and average["BLEU"] for average in averages]),
    }


def build_table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of configurations.

    Args:
        rows: what :func:`compare` has returned.
    """
    title = "BLEU on newstest2010 to newstest2016: mean ± sample standard deviation over seeds"
    header = ["configuration", "seeds", "parameters", "speed", *YEARS, "average"]
    speed = (
        f"speed: median of the target tokens per second in {run_folder.LOG}, relative to {rows[0]['configuration']}; "
        "comparable only on one kind of machine"
    )
    notes = [note for row in rows for note in _notes(row)]
    return Table(title, header, [_cells(row) for row in rows], [*notes, speed])


def _cells(row: dict[str, Any]) -> list[str]:
    seeds, left_out = len(row["runs"]), len(row["diverged"]) + len(row["failed"])
    scores = [_show(score) for score in (*row["bleu"].values(), row["average"])]
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

"""The numbers of the study's runs: from a run's folder to its record, and from records to a model at its best rate.

    python -m claims.study.records RUN            write RUN/record.json, the numbers of a run that has ended
    python -m claims.study.records --stop RUN     exit with 0 if the run has learned nothing and is to be stopped
    python -m claims.study.records --gather OUT   add the records of all runs to claims/results/study.json

claims/study/run.sh writes RUN/cell.json before a run: which run of the grid it is.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from b2t_cli.reporting.tuning import Tuned, tune
from b2t_cli.runs.run import Run, read_all
from b2t_common.files import read_lines, write_whole
from claims.evidence import RESULTS, read_records, write_records

Record = dict[str, Any]
FILE = "study.json"
RECORD, CELL, PROVENANCE, GENERATED = "record.json", "cell.json", "provenance.json", "generated.txt"
"""Files in a run's folder: the first one says that it is finished, the others are what claims/study/run.sh writes."""
LEARNED = 0.1
"""A model has learned something if its loss is at least this many bits below that of the frequencies of words."""
FIRST_SEED = 1
"""The seed with which every rate is tried."""


def record(folder: Path) -> Record:
    """Return the record of a run that has ended.

    Args:
        folder: the run's folder, with ``cell.json``, ``provenance.json`` and the training log.
    """
    (run,) = read_all([folder])
    cell = json.loads((folder / CELL).read_text(encoding="utf-8"))
    curve = _curve(run)
    last = curve[-1][1] if curve else None
    why = failure(run, cell)
    clipped, speed = run.clipped(), run.speed()
    return {
        "run": folder.name,
        **cell,
        "scheme": run.model.scheme,
        "layers": run.model.layers,
        "unique_layers": run.model.unique_layers,
        "parameters": run.model.parameters,
        "vocabulary": run.log.vocabulary,
        "done": run.updates(),
        "loss": last,
        "failure": why,
        "curve": curve,
        "train_loss": _rounded(run.log.training().last("loss")),
        "clipped": None if clipped is None else round(clipped, 3),
        "gradient_norm": _rounded(run.log.training().last("gnorm")),
        "tokens_per_second": None if speed is None else round(speed),
        "minutes": round(run.training_seconds() / 60, 1),
        **exact_matches(folder),
        **json.loads((folder / PROVENANCE).read_text(encoding="utf-8")),
    }


def failure(run: Run, cell: Record) -> str | None:
    """Return why a run failed, ``None`` if it did not.

    It failed if it diverged by the rules of ``b2t report``, or learned no more than the frequencies of words.
    """
    if run.divergence:
        return f"diverged at update {run.divergence.update}: {run.divergence.reason}"
    last = run.log.validation().last("loss")
    if not math.isfinite(last):
        return "no validation loss that is finite"
    limit = cell.get("unigram_loss")
    if limit is not None and last > limit - LEARNED:
        return f"after {run.updates()} updates no better than the frequencies of words"
    return None


def exact_matches(folder: Path) -> dict[str, Any]:
    """Return the share of the test words of each length whose product a model has found, if it was translated."""
    path = folder / GENERATED
    if not path.is_file():
        return {}
    found: dict[int, list[bool]] = {}
    lines = {}
    for line in read_lines(path):
        if line[:2] in ("S-", "T-", "H-"):
            key, *rest = line.split("\t")
            lines[key] = rest[-1]
    for key, word in lines.items():
        kind, _, number = key.partition("-")
        if kind == "S":
            found.setdefault(len(word.split()), []).append(lines[f"H-{number}"] == lines[f"T-{number}"])
    return {"exact": {str(length): round(sum(hits) / len(hits), 4) for length, hits in sorted(found.items())}}


def read(folder: Path = RESULTS) -> list[Record]:
    """Return the records of all runs that are done."""
    return read_records(folder / FILE)


def of(done: Iterable[Record], model: str, updates: int, task: str = "mix") -> list[Record]:
    """Return the runs of a model."""
    return [one for one in done if (one["task"], one["model"], one["updates"]) == (task, model, updates)]


def loss(one: Record) -> float:
    """Return the last validation loss of a run in bits per token, infinite if it failed."""
    return math.inf if one["failure"] or one["loss"] is None else float(one["loss"])


def losses(done: Iterable[Record], model: str, updates: int, task: str = "mix") -> dict[float, list[float]]:
    """Return the losses of a model's runs with the first seed at each rate."""
    by_rate: dict[float, list[float]] = {}
    for one in of(done, model, updates, task):
        if one["seed"] == FIRST_SEED:
            by_rate.setdefault(float(one["rate"]), []).append(loss(one))
    return {rate: by_rate[rate] for rate in sorted(by_rate)}


def tuned(done: Sequence[Record], model: str, updates: int, task: str = "mix") -> Tuned | None:
    """Return a model at the best of the rates that were tried, ``None`` if there is none at which it trains."""
    by_rate = losses(done, model, updates, task)
    words = [one["vocabulary"] for one in of(done, model, updates, task)]
    return tune(by_rate, math.log2(words[0])) if by_rate else None


def spelled(done: Iterable[Record], model: str, rate: float) -> str:
    """Return a rate as it is spelled in the names of a model's runs."""
    return next(one["rate"] for one in done if one["model"] == model and float(one["rate"]) == rate)


def gather(out: Path, results: Path) -> int:
    """Add the records of the runs in ``OUT/runs`` to the file in ``results``; return how many there are in all.

    Earlier records of a task whose settings have changed are left out.
    """
    new = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob(f"runs/*/{RECORD}"))]
    current = {one["task"]: one["settings"] for one in new}
    merged = {one["run"]: one for one in [*read(results), *new]}
    kept = [one for _, one in sorted(merged.items()) if one["settings"] == current.get(one["task"], one["settings"])]
    results.mkdir(parents=True, exist_ok=True)
    write_records(results / FILE, kept)
    return len(kept)


def _curve(run: Run) -> list[list[float | None]]:
    validation = run.log.validation()
    return [
        [int(update), _rounded(value)] for update, value in zip(validation["update"], validation["loss"], strict=True)
    ]


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run's folder; with --gather, that of all runs")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--stop", action="store_true", help="only say whether the run is to be stopped")
    action.add_argument("--gather", action="store_true", help="collect all records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where --gather writes")
    args = parser.parse_args()
    if args.gather:
        print(f"{gather(args.folder, args.results)} runs: {args.results / FILE}")
        return 0
    if args.stop:
        (run,) = read_all([args.folder])
        why = failure(run, json.loads((args.folder / CELL).read_text(encoding="utf-8")))
        print(why or "it learns")
        return 0 if why else 1
    write_whole({args.folder / RECORD: json.dumps(record(args.folder), allow_nan=False).encode()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

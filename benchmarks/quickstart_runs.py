"""What a benchmark reads from the folder of scripts/quickstart.sh."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from b2t_cli.runs.run import Run, read_all
from b2t_common.errors import InputError
from b2t_common.files import read_lines


@dataclass(frozen=True)
class FinishedRun:
    """A training, the number of its parameters, and its scores on the test set."""

    run: Run
    parameters: int
    bleu: float
    chrf: float


def add_work(parser: argparse.ArgumentParser) -> None:
    """Add ``WORK``, the folder of all runs of a driver such as benchmarks/sampling/run.sh."""
    parser.add_argument("work", type=Path, metavar="WORK", help="the folder that was given to run.sh")


def read_finished(folder: Path, script: str) -> FinishedRun:
    """Return the run of a folder.

    Args:
        folder: that scripts/quickstart.sh wrote.
        script: the script to call again if the run is not finished.

    Raises:
        InputError: the run is not finished, or its model is unknown.
    """
    scores = read_scores(folder / "score.txt", script)
    (run,) = read_all([folder])
    if run.model.parameters is None:
        raise InputError(f"{folder} does not say how many parameters its model has; give the folder of {script}")
    return FinishedRun(run, run.model.parameters, scores["BLEU"], scores["chrF2"])


def read_scores(file: Path, script: str) -> dict[str, float]:
    """Return the scores that ``b2t score`` has printed, by the name of the metric.

    Args:
        file: what it printed.
        script: the script to call again if the file is not there.

    Raises:
        InputError: it is not there.
    """
    if not file.is_file():
        raise InputError(f"{file} is not there: {script} has not come so far; call it again")
    return {metric: float(score) for metric, score in re.findall(r"^(\w+)\|.* = ([\d.]+)$", file.read_text(), re.M)}


def read_references(run: Path) -> list[str]:
    """Return the references of a run's test set.

    Raises:
        InputError: the folder has none.
    """
    file = next(run.glob("raw/test*.de"), None)
    if file is None:
        raise InputError(f"{run} has no file raw/test*.de; give the folder that scripts/quickstart.sh wrote (--work)")
    return read_lines(file)

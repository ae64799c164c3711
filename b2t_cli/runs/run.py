"""A run: its log, the model that it trains, its scores, and how it is getting on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from b2t_common.errors import InputError
from b2t_fairseq import checkpoints
from b2t_fairseq.counting import count_parameters
from b2t_fairseq.settings.plan import plan_of_checkpoint

from .. import tables
from . import divergence, log
from .curves import Log

SILENCE = 600.0
"""Seconds without a line in the log before a run may be taken for stopped."""


@dataclass
class Model:
    """A model's scheme and sharing, its N and M by stack, and its number of parameters; empty is not known."""

    scheme: str = ""
    sharing: str = ""
    layers: dict[str, int] = field(default_factory=dict)
    unique_layers: dict[str, int] = field(default_factory=dict)
    parameters: int | None = None


@dataclass
class Run:
    """One run as its files tell of it.

    Attributes:
        name: what the report calls it.
        path: its log.
        modified: when the log was last written, seconds since the epoch.
        log: what the log says.
        model: from the log, what that lacks from a checkpoint.
        divergence: where it diverged, if it did.
        scores: what ``b2t score`` wrote, if it has.
    """

    name: str
    path: Path
    modified: float
    log: Log
    model: Model
    divergence: divergence.Divergence | None
    scores: dict[str, Any] | None

    def updates(self) -> int:
        """Return the number of updates so far."""
        curves = [self.log.training(), *self.log.valid.values()]
        return max(int(curve.last("update")) if len(curve) else 0 for curve in curves)

    def state(self, now: float | None = None) -> str:
        """Return ``"finished"``, ``"diverged at 4,300"``, ``"stopped"`` or ``"training"``.

        A run that did not say why it ended counts as stopped when its log has not grown for three times the longest
        pause between two reports so far, and for ten minutes at the least.

        Args:
            now: seconds since the epoch, default: the present.
        """
        if self.divergence:
            return f"diverged at {self.divergence.update:,}"
        if 0 < self.log.max_update <= self.updates() or (self.log.ended and not self.log.asked):
            return "finished"
        if self.log.ended or self.log.error:
            return "stopped"
        pauses = np.diff(self.log.training()["wall"])
        longest = float(np.nanmax(pauses, initial=0)) if len(pauses) else 0.0
        silent = (time.time() if now is None else now) - self.modified
        return "stopped" if silent > max(SILENCE, 3 * longest) else "training"

    def speed(self) -> float | None:
        """Return the median of the target tokens per second, the first report of each start left out."""
        speeds = self.log.speeds()
        return float(np.median(speeds)) if len(speeds) else None

    def training_seconds(self) -> float:
        """Return the seconds spent in updates: neither validation counts, nor what an interruption undid."""
        return float(np.nansum(self.log.training()["train_wall"]))

    def best(self) -> dict[str, float] | None:
        """Return update, loss and perplexity of the validation with the lowest loss."""
        curve = self.log.validation()
        finite = np.flatnonzero(np.isfinite(curve["loss"]))
        if not len(finite):
            return None
        best = finite[np.argmin(curve["loss"][finite])]
        return {column: float(curve[column][best]) for column in ("update", "loss", "ppl")}


def read_all(paths: Iterable[Path]) -> list[Run]:
    """Read runs, each once, named by as much of their paths as tells them apart.

    Raises:
        InputError: one of them has no log of fairseq, or a damaged ``scores.json``.
    """
    found: dict[Path, tuple[Path, Path | None]] = {}
    for path in paths:
        log_path = find_log(path)
        # of a log beside others it is not known whether the checkpoints there are its
        folder = log_path.parent if path.is_dir() or log_path.name == "train.log" else None
        found.setdefault((folder or log_path).absolute(), (log_path, folder))
    names = tables.labels(found)
    return [_read(name, *files) for name, files in zip(names, found.values(), strict=True)]


def find_log(path: Path) -> Path:
    """Return a run's log: the file itself, the folder's ``train.log``, or its only ``.log``.

    Raises:
        InputError: there is none, or there are several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: there is no such run; give a run's folder or its log")
    logs = [path / "train.log"] if (path / "train.log").is_file() else sorted(path.glob("*.log"))
    if not logs:
        raise InputError(
            f"{path} has no train.log and no other .log; scripts/train.sh writes one, and for fairseq-train add "
            f"--log-format simple and 2>&1 | tee -a {path}/train.log"
        )
    if len(logs) > 1:
        raise InputError(f"{path} has no train.log but {', '.join(file.name for file in logs)}; give one of them")
    return logs[0]


def _read(name: str, path: Path, folder: Path | None) -> Run:
    # before it is read: what is written meanwhile makes the run younger, not older
    modified = path.stat().st_mtime
    read = log.read(path)
    if not read.is_fairseqs():
        raise InputError(
            f"{path} is not a log of fairseq-train: nothing in it is of a training; "
            "train with --log-format simple or json"
        )
    return Run(name, path, modified, read, _model(read, folder), divergence.find(read), read_scores(folder))


def _model(read: Log, folder: Path | None) -> Model:
    if read.model:
        scheme, sharing, sets = read.model
        layers = {stack: len(indices) for stack, indices in sets.items()}
        unique = {stack: len(set(indices)) for stack, indices in sets.items()}
        return Model(scheme, sharing, layers, unique, read.parameters)
    for name in ("checkpoint_last.pt", "checkpoint_best.pt", "evaluation/averaged.pt") if folder else ():
        try:
            return _model_of_checkpoint(checkpoints.load(folder / name), read.parameters)
        except (InputError, FileNotFoundError):
            continue  # none yet, or just being written
    return Model(parameters=read.parameters)


def _model_of_checkpoint(state: dict[str, Any], parameters: int | None) -> Model:
    settings = checkpoints.model_settings(state)
    plan = plan_of_checkpoint(settings)
    return Model(
        settings.get("residual") or "",
        settings.get("layer_sharing") or "",
        {stack.name: len(stack.indices) for stack in plan.stacks},
        {stack.name: stack.num_sets for stack in plan.stacks},
        count_parameters(plan, state["model"]) if parameters is None else parameters,
    )


def read_scores(folder: Path | None) -> dict[str, Any] | None:
    """Return what ``b2t score`` wrote of a run, ``None`` if it has not.

    Raises:
        InputError: the file is damaged.
    """
    path = folder and folder / "evaluation/scores.json"
    if not path or not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); score again with `b2t score {folder}`") from None

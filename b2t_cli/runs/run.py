"""A run as the files in its folder show it: its log, its state, the model that it trains and its scores."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from b2t_common import run_folder
from b2t_common.errors import InputError

from ..tables import labels
from . import log, settings
from .curves import Log
from .divergence import DIVERGED, Divergence
from .divergence import find as find_divergence
from .model import Model

SILENCE = 600.0
"""Seconds without a new line in the log after which a run may count as stopped."""


@dataclass
class Run:
    """One run as its files show it.

    Attributes:
        name: what a report calls it.
        path: its log.
        folder: the folder with its checkpoints and scores, ``None`` if only the log is known.
        modified: when the log was last written, seconds since the epoch.
        log: what the log says.
        divergence: where it diverged, if it did.
    """

    name: str
    path: Path
    folder: Path | None
    modified: float
    log: Log
    divergence: Divergence | None

    @cached_property
    def model(self) -> Model:
        """The model that it trains: from the log, or from a checkpoint if the log does not name it."""
        return _model(self.log, self.folder)

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings of its last start by section and name; empty if the log does not have them."""
        return settings.parse(self.log.settings)

    @cached_property
    def scores(self) -> dict[str, Any] | None:
        """What ``b2t score`` wrote, ``None`` if it was not called.

        Raises:
            InputError: the file is damaged.
        """
        return _scores(self.folder) if self.folder else None

    def updates(self) -> int:
        """Return the number of updates so far."""
        curves = [self.log.training(), *self.log.valid.values()]
        return max(int(curve.last("update")) if len(curve) else 0 for curve in curves)

    def state(self, now: float | None = None) -> str:
        """Return ``"finished"``, ``"diverged at 4,300"``, ``"stopped"`` or ``"training"``.

        A run whose log does not say that it ended counts as stopped when the log has not grown for ten minutes and for
        three times the longest pause between two reports so far.

        Args:
            now: seconds since the epoch (default: the present).
        """
        if self.divergence:
            return f"{DIVERGED} at {self.divergence.update:,}"
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

    def clipped(self) -> float | None:
        """Return the share of the updates whose gradient was clipped, ``None`` if the training did not clip."""
        curve = self.log.training()
        logged = np.isfinite(curve["clip"])
        if not logged.any():
            return None
        # each report has the percentage of the updates since the report before
        updates = np.diff(curve["update"], prepend=0)[logged]
        return float(np.average(curve["clip"][logged], weights=updates)) / 100

    def training_seconds(self) -> float:
        """Return the seconds spent in updates, without validation and without updates that were lost and done again."""
        return float(np.nansum(self.log.training()["train_wall"]))

    def best(self) -> dict[str, float] | None:
        """Return update, loss and perplexity of the validation with the lowest loss."""
        curve = self.log.validation()
        finite = np.flatnonzero(np.isfinite(curve["loss"]))
        if not len(finite):
            return None
        best = finite[np.argmin(curve["loss"][finite])]
        return {column: float(curve[column][best]) for column in ("update", "loss", "ppl")}

    def best_bleu(self) -> float | None:
        """Return the highest BLEU of a validation, ``None`` if BLEU was not computed (``--eval-bleu``)."""
        scores = self.log.validation()["bleu"]
        finite = scores[np.isfinite(scores)]
        return float(finite.max()) if len(finite) else None


def read_all(paths: Iterable[Path]) -> list[Run]:
    """Read runs, each once; their names are the ends of their paths, long enough to be different.

    Args:
        paths: folders of runs, or logs.

    Raises:
        InputError: one of them has no log of fairseq.
    """
    runs: dict[Path, tuple[Path, Path | None]] = {}
    for path in paths:
        log_path = find_log(path)
        # the checkpoints beside a log of another name may be those of another run
        folder = log_path.parent if path.is_dir() or log_path.name == run_folder.LOG else None
        runs.setdefault((folder or log_path).absolute(), (log_path, folder))
    return [_read_training(name, *files) for name, files in zip(labels(runs), runs.values(), strict=True)]


def read(name: str, path: Path, folder: Path | None) -> Run:
    """Read the log of one run.

    Args:
        name: what to call the run.
        path: its log.
        folder: the folder with its checkpoints and scores, ``None`` if only the log is known.
    """
    # before the log is read, so that the log is never older than this time says
    modified = path.stat().st_mtime
    content = log.read(path)
    return Run(name, path, folder, modified, content, find_divergence(content))


def find_log(path: Path) -> Path:
    """Return a run's log: the file itself, the folder's ``train.log``, or its only ``.log``.

    Raises:
        InputError: there is none, or there are several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: there is no such run; give a run's folder or its log")
    usual = path / run_folder.LOG
    logs = [usual] if usual.is_file() else sorted(path.glob("*.log"))
    if not logs:
        raise InputError(
            f"{path} has no {run_folder.LOG} and no other .log; scripts/train.sh writes one; to fairseq-train add "
            f"--log-format simple and 2>&1 | tee -a {usual}"
        )
    if len(logs) > 1:
        names = ", ".join(file.name for file in logs)
        raise InputError(f"{path} has no {run_folder.LOG} but {names}; give one of them")
    return logs[0]


def _read_training(name: str, path: Path, folder: Path | None) -> Run:
    run = read(name, path, folder)
    if not run.log.is_fairseqs():
        raise InputError(
            f"{path} is not a log of fairseq-train: nothing in it is of a training; "
            "train with --log-format simple or json"
        )
    return run


def _model(content: Log, folder: Path | None) -> Model:
    line = content.model
    if line is not None:
        return Model.of_sets(line.residual, line.layer_sharing, line.parameter_sets, line.parameters)
    names = (run_folder.LAST_CHECKPOINT, run_folder.BEST_CHECKPOINT, run_folder.AVERAGED)
    existing = [folder / name for name in names if (folder / name).is_file()] if folder else []
    if existing:
        # torch and fairseq are imported only for this
        from b2t_fairseq import checkpoints

        from .checkpoint_model import model_of_checkpoint

        for path in existing:
            # the file may be incomplete, as it is being written
            with suppress(InputError):
                return model_of_checkpoint(checkpoints.load(path), content.parameters)
    return Model(parameters=content.parameters)


def _scores(folder: Path) -> dict[str, Any] | None:
    path = folder / f"{run_folder.SCORES}.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); score again with `b2t score {folder}`") from None

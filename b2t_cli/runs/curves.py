"""What a training log says: curves over updates, and facts of the run."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from b2t_common.model_line import ModelLine

COLUMNS = ("loss", "nll_loss", "ppl", "lr", "gnorm", "wps", "wall", "train_wall")


class Curve:
    """Reports of a log by ascending number of updates, each column a compact array.

    A value that was not logged is nan; one that was logged as nan or infinite is inf.
    """

    def __init__(self) -> None:
        self._columns = {name: array("d") for name in ("update", "start", *COLUMNS)}

    def __len__(self) -> int:
        return len(self._columns["update"])

    def __getitem__(self, column: str) -> np.ndarray:
        return np.array(self._columns[column])

    def last(self, column: str) -> float:
        """Return a column's value in the last report, nan without any."""
        values = self._columns[column]
        return values[-1] if values else math.nan

    def append(self, update: int, values: Mapping[str, float], start: bool = False) -> None:
        """Add a report; those at the same and at later updates are superseded.  ``start``: the first of a start."""
        self.drop_from(update)
        for name, column in self._columns.items():
            column.append(values.get(name, math.nan))
        self._columns["update"][-1] = update
        self._columns["start"][-1] = start

    def drop_from(self, update: int) -> None:
        """Forget the reports at this update and later."""
        updates = self._columns["update"]
        while updates and updates[-1] >= update:
            for column in self._columns.values():
                column.pop()


@dataclass
class Log:
    """What a training log says.

    Attributes:
        train: one report per ``--log-interval`` updates; its losses are means since the report before.
        epochs: one report per epoch, the means over it; also in logs of ``--log-format tqdm``.
        valid: validation by subset, the first one being fairseq's for ``checkpoint_best.pt``.
        max_update: updates to come to, 0 if not said.
        sentence_avg: losses are per sentence rather than per target token (``--sentence-avg``).
        label_smoothing: of the loss; None if not said.
        vocabulary: types in the target dictionary, None if not said.
        parameters: number of parameters, tied ones once, None if not said.
        model: the plugin's line about the model, None in logs of other models.
        gave_up: why fairseq gave up after the last report, empty if it did not.
        error: the last line of an exception after the last report.
        ended: training ended by itself in the last start.
        asked: it was asked to stop in the last start.
        starts: how often it was started.
    """

    train: Curve = field(default_factory=Curve)
    epochs: Curve = field(default_factory=Curve)
    valid: dict[str, Curve] = field(default_factory=dict)
    max_update: int = 0
    sentence_avg: bool = False
    label_smoothing: float | None = None
    vocabulary: int | None = None
    parameters: int | None = None
    model: ModelLine | None = None
    gave_up: str = ""
    error: str = ""
    ended: bool = False
    asked: bool = False
    starts: int = 0

    def training(self) -> Curve:
        """Return the reports of training, by epochs where there are no others."""
        return self.train if len(self.train) else self.epochs

    def validation(self) -> Curve:
        """Return the reports of the first validation subset."""
        return next(iter(self.valid.values()), Curve())

    def speeds(self) -> np.ndarray:
        """Return the target tokens per second of all reports but the first of each start, when a device warms up."""
        curve = self.training()
        speeds = curve["wps"][curve["start"] != 1]
        return speeds[np.isfinite(speeds)]

    def is_fairseqs(self) -> bool:
        """Say whether anything in it is of fairseq-train."""
        return bool(self.starts or self.parameters or len(self.training()) or self.valid)

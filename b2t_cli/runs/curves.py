"""What a training log says: curves over updates, and what is known of the run and its model."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from b2t_common.model_line import ModelLine

COLUMNS = ("loss", "nll_loss", "ppl", "bleu", "lr", "gnorm", "clip", "wps", "wall", "train_wall")


class Curve:
    """Reports of a log by ascending number of updates, in columns.

    A value that was not logged is NaN; a value that was logged as NaN or infinite is infinite.
    """

    def __init__(self) -> None:
        self._columns = {name: array("d") for name in ("update", "start", *COLUMNS)}

    def __len__(self) -> int:
        return len(self._columns["update"])

    def __getitem__(self, column: str) -> np.ndarray:
        return np.array(self._columns[column])

    def last(self, column: str) -> float:
        """Return the value of a column in the last report, NaN if there is no report."""
        values = self._columns[column]
        return values[-1] if values else math.nan

    def append(self, update: int, values: Mapping[str, float], start: bool = False) -> None:
        """Add a report, and remove earlier ones of the same and of later updates, which a continued run has repeated.

        Args:
            update: number of updates.
            values: the numbers of the report by column.
            start: whether it is the first report after a start of the training.
        """
        self.drop_from(update)
        for name, column in self._columns.items():
            column.append(values.get(name, math.nan))
        self._columns["update"][-1] = update
        self._columns["start"][-1] = start

    def drop_from(self, update: int) -> None:
        """Remove the reports of this update and of later ones."""
        updates = self._columns["update"]
        while updates and updates[-1] >= update:
            for column in self._columns.values():
                column.pop()


@dataclass
class Log:
    """What a training log says.

    Attributes:
        train: one report per ``--log-interval`` updates, with means over the updates since the report before.
        epochs: one report per epoch, with means over the epoch; logs without reports of updates have them too.
        valid: the validations by subset; fairseq chooses ``checkpoint_best.pt`` by the first subset.
        max_update: number of updates that the training is to reach, 0 if not known.
        sentence_avg: losses are per sentence rather than per target token (``--sentence-avg``).
        label_smoothing: of the loss, ``None`` if not known.
        settings: all settings of the last start, as fairseq writes them.
        vocabulary: size of the target dictionary, ``None`` if not known.
        parameters: number of parameters, tied ones counted once, ``None`` if not known.
        model: the plugin's line about the model, ``None`` in logs of other models.
        gave_up: why fairseq gave up after the last report, empty if it did not.
        error: the last line of an exception after the last report, empty if there is none.
        ended: the training ended without an error after the last start.
        asked: a signal asked it to stop after the last start.
        starts: how often it was started.
        unread: number of lines with ``num_updates`` that were not understood.
    """

    train: Curve = field(default_factory=Curve)
    epochs: Curve = field(default_factory=Curve)
    valid: dict[str, Curve] = field(default_factory=dict)
    max_update: int = 0
    sentence_avg: bool = False
    label_smoothing: float | None = None
    settings: str = ""
    vocabulary: int | None = None
    parameters: int | None = None
    model: ModelLine | None = None
    gave_up: str = ""
    error: str = ""
    ended: bool = False
    asked: bool = False
    starts: int = 0
    unread: int = 0

    def training(self) -> Curve:
        """Return the reports of training, or those of epochs if there are no others."""
        return self.train if len(self.train) else self.epochs

    def validation(self) -> Curve:
        """Return the reports of the first validation subset."""
        return next(iter(self.valid.values()), Curve())

    def speeds(self) -> np.ndarray:
        """Return the target tokens per second of each report, ``(num_reports,)``.

        The first report after each start is left out, as it includes the warm-up of the device.
        """
        curve = self.training()
        speeds = curve["wps"][curve["start"] != 1]
        return speeds[np.isfinite(speeds)]

    def is_fairseqs(self) -> bool:
        """Return whether any line is of fairseq-train."""
        return bool(self.starts or self.parameters or len(self.training()) or self.valid or self.unread)

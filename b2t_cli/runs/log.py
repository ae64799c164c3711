"""Reads the training log of fairseq line by line.  The run may have been stopped and resumed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from b2t_common.model_line import parse_model_line
from b2t_common.names import ASKED_TO_STOP

from .curves import COLUMNS, Curve, Log

TRAINING = "train"
"""What fairseq calls the report of an epoch, where those of validations have the name of their subset."""

_SIMPLE_INNER = re.compile(rb"(\w+)=([^,\s]+)")
# as bytes in --log-format simple, as text in json
_NAMES = {spelt: name for name in ("num_updates", *COLUMNS) for spelt in (name, name.encode())}
_SIMPLE_VALUES = re.compile(rb"\| (\w+) (\S+)")
_SUBSET = re.compile(rb"\| valid on '(.+?)' subset \|")
_JSON_TAG = re.compile(rb'"([^"]+)_num_updates"')
_VOCABULARY = re.compile(r"dictionary: ([\d,]+) types|dictionary size \(.*\): ([\d,]+)")
_GAVE_UP = re.compile(
    r"(Minimum loss scale reached \([^)]*\)|gradients are Nan/Inf|Detected nan/inf grad norm"
    r"|^rank +\d+ = -?(?:nan|inf)\b)"
)


def read(path: Path) -> Log:
    """Read a log of ``--log-format simple``, ``json`` or ``tqdm``; a last line that is not complete is left out.

    If a run was resumed, its new reports take the place of earlier ones of the same and of later updates.
    """
    log = Log()
    first = True
    with open(path, "rb") as file:
        for line in _complete_lines(file):
            # nearly all lines of a long log are reports
            if b"num_updates" in line:
                if values := training_report(line):
                    _add_training_report(log, values, first)
                    first = False
                elif summary := summary_report(line):
                    _add_summary_report(log, *summary)
            elif b"training on " in line and b" devices" in line:
                log.starts += 1
                log.ended = log.asked = False
                log.error = ""
                first = True
            else:
                _event(log, line.decode("utf-8", "replace"))
    return log


def _complete_lines(file: Iterable[bytes]) -> Iterator[bytes]:
    return (line for line in file if line.endswith(b"\n"))


def training_report(line: bytes) -> dict[str, float] | None:
    """Return the numbers of a ``train_inner`` report by name, ``None`` if the line is another or is not complete."""
    if b"train_inner" not in line or b"num_updates" not in line:
        return None
    return _complete(_json(line).items() if b"{" in line else _SIMPLE_INNER.findall(line))


def summary_report(line: bytes) -> tuple[str, dict[str, float]] | None:
    """Return the subset, and the numbers by name, of the report of a validation; of an epoch of training: ``train``."""
    if b"train_inner" in line or b"num_updates" not in line:
        return None
    tag = _JSON_TAG.search(line)
    if tag:
        subset = tag[1].decode()
        values = _complete((key.removeprefix(f"{subset}_"), value) for key, value in _json(line).items())
    else:
        match = _SUBSET.search(line)
        subset = match[1].decode() if match else TRAINING
        values = _complete(_SIMPLE_VALUES.findall(line))
    return None if values is None else (subset, values)


def _add_training_report(log: Log, values: dict[str, float], first: bool) -> None:
    update = int(values["num_updates"])
    log.train.append(update, values, first)
    # the validation after update U, and the end of an epoch, are logged after the report of update U
    for curve in (log.epochs, *log.valid.values()):
        curve.drop_from(update)
    log.gave_up = log.error = ""


def _add_summary_report(log: Log, subset: str, values: dict[str, float]) -> None:
    curve = log.epochs if subset == TRAINING else log.valid.setdefault(subset, Curve())
    curve.append(int(values["num_updates"]), values)


def _event(log: Log, line: str) -> None:
    """Read a line about the model, the settings or the end of the training."""
    if "'optimization': {" in line:
        _settings(log, line)
    elif model := parse_model_line(line):
        log.model = model
    elif match := re.search(r"num\. shared model params: ([\d,]+)", line):
        log.parameters = int(match[1].replace(",", ""))
    elif match := _VOCABULARY.search(line):
        # the source dictionary is logged first, then the target dictionary
        log.vocabulary = int((match[1] or match[2]).replace(",", ""))
    elif "done training in " in line:
        log.ended = True
    elif ASKED_TO_STOP in line:
        log.asked = True
    elif match := _GAVE_UP.search(line):
        log.gave_up = match[1].strip()
    if match := re.match(r"(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception|KeyboardInterrupt)\b.{0,120})", line):
        log.error = match[1].strip()


def _settings(log: Log, line: str) -> None:
    if match := re.search(r"'max_update': (\d+)", line):
        log.max_update = int(match[1])
    log.sentence_avg = "'sentence_avg': True" in line
    match = re.search(r"'label_smoothing': ([\d.]+)", line)
    log.label_smoothing = float(match[1]) if match else 0.0


def _json(line: bytes) -> dict:
    try:
        values = json.loads(line[line.index(b"{") :])
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _complete(values: Iterable[tuple]) -> dict[str, float] | None:
    """Return the numbers of a report, ``None`` if it lacks the number of updates or the loss."""
    numbers = _numbers(values)
    return numbers if numbers.keys() >= {"num_updates", "loss"} else None


def _numbers(values: Iterable[tuple]) -> dict[str, float]:
    """Return the values of the columns that curves have; a value that is not finite becomes infinite."""
    numbers = {}
    for name, value in values:
        name = _NAMES.get(name)
        if name is None:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        numbers[name] = number if math.isfinite(number) else math.inf
    return numbers

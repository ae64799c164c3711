"""Reads the training log of fairseq line by line.  The run may have been stopped and continued."""

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

_SIMPLE_INNER = re.compile(rb"(\w+)=([^,\s\]]+)")
# "epoch 001:      5 / 44 loss=10.857, ...", of --log-format simple
_IN_SIMPLE = re.compile(rb"epoch \d+: +\d+ / \d+ \w+=")
# " 5/44 [00:01<00:07, 4.70it/s, loss=10.857, ...]", of --log-format tqdm; without its end it is cut
_BAR = re.compile(rb"\d+/\d+ \[\d[^\]]*\]")
_TERMINAL_CODE = re.compile(rb"\x1b\[[\d;]*[A-Za-z]")
_NO_REPORT = b"Stopping training due to num_updates"
# as bytes in --log-format simple, as text in json
_NAMES = {spelt: name for name in ("num_updates", *COLUMNS) for spelt in (name, name.encode())}
_SIMPLE_VALUES = re.compile(rb"\| (\w+) (\S+)")
_SUBSET = re.compile(rb"\| valid on '(.+?)' subset \|")
_JSON_TAG = re.compile(rb'"([^"]+)_num_updates"')
_VOCABULARY = re.compile(r"dictionary: ([\d,]+) types|dictionary size \(.*\): ([\d,]+)")
_ERROR = re.compile(
    r"(?:\[rank\d+\]: |b2t train: )?((?:[\w.]*(?:Error|Exception|KeyboardInterrupt)\b|error: ).{0,120})"
)
_GAVE_UP = re.compile(
    r"(Minimum loss scale reached \([^)]*\)|gradients are Nan/Inf|Detected nan/inf grad norm"
    r"|^rank +\d+ = -?(?:nan|inf)\b)"
)


def read(path: Path) -> Log:
    """Read a log in any form that fairseq writes; a last line that is not complete is left out.

    The forms are those of ``--log-format`` tqdm, simple and json, on standard output and error, where a line begins
    with the time, and in ``--log-file``, where it does not.  If one file has both, each report counts once.

    If a run was continued, its new reports take the place of earlier ones of the same and of later updates.
    """
    log = Log()
    # whether a report, and a report of training, came after the last start
    any_report = training = False
    starts = {"with time": 0, "without time": 0}
    with open(path, "rb") as file:
        for line in _complete_lines(file):
            # nearly all lines of a long log are reports
            if b"num_updates" in line:
                if values := training_report(line):
                    if not any_report:
                        _drop_repeated(log, int(values["num_updates"]))
                    if not training or not _is_repeated(log, values):
                        _add_training_report(log, values, start=not training)
                    any_report = training = True
                elif summary := summary_report(line):
                    if not any_report:
                        _drop_repeated(log, int(summary[1]["num_updates"]))
                    _add_summary_report(log, *summary)
                    any_report = True
                elif _NO_REPORT not in line:
                    log.unread += 1
            elif b"training on " in line and b" devices" in line:
                starts["without time" if line.startswith(b"training on ") else "with time"] += 1
                log.starts = max(starts.values())
                log.ended = log.asked = False
                log.error = ""
                any_report = training = False
            else:
                _event(log, line.decode("utf-8", "replace"))
    return log


def _complete_lines(file: Iterable[bytes]) -> Iterator[bytes]:
    for line in file:
        if line.endswith(b"\n"):
            yield from _parts(line) if b"\r" in line else (line,)


def _parts(line: bytes) -> Iterator[bytes]:
    """Yield what a terminal showed one after the other in one line: bars of tqdm, and the text that follows a bar."""
    for shown in _TERMINAL_CODE.sub(b"", line).split(b"\r"):
        bar = _BAR.search(shown)
        if bar:
            yield bar[0]
            shown = shown[bar.end() :]
        yield shown


def training_report(line: bytes) -> dict[str, float] | None:
    """Return the numbers of a report of training updates by name, ``None`` if the line is another or not complete."""
    if b"num_updates" not in line:
        return None
    if b"{" in line:
        # reports of epochs and of validations have the name of their subset before each key
        return _complete(_json(line).items())
    if b"train_inner" in line or _IN_SIMPLE.search(line) or _BAR.match(line):
        return _complete(_SIMPLE_INNER.findall(line))
    return None


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


def _is_repeated(log: Log, values: dict[str, float]) -> bool:
    """Return whether a report is the last one again: of another form, or of a bar that was drawn again."""
    last = {name: log.train.last("update" if name == "num_updates" else name) for name in values}
    return values == last


def _drop_repeated(log: Log, update: int) -> None:
    """Remove what the run logged of this update and of later ones before it was continued.

    Only the first report after a start says where the run continues: a bar may show the report of an update after the
    validation that follows it.
    """
    for curve in (log.train, log.epochs, *log.valid.values()):
        curve.drop_from(update)


def _add_training_report(log: Log, values: dict[str, float], start: bool) -> None:
    log.train.append(int(values["num_updates"]), values, start)
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
    if match := _ERROR.match(line):
        log.error = match[1].strip()


def _settings(log: Log, line: str) -> None:
    if match := re.search(r"'max_update': (\d+)", line):
        log.max_update = int(match[1])
    log.sentence_avg = "'sentence_avg': True" in line
    match = re.search(r"'label_smoothing': ([\d.]+)", line)
    log.label_smoothing = float(match[1]) if match else 0.0
    log.settings = line[line.find("{") :]


def _json(line: bytes) -> dict:
    try:
        # a report that was cut may stand before it
        values = json.loads(line[line.rindex(b"{") :])
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

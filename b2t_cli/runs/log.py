"""Reading fairseq's training log, line by line, however often the run was stopped and resumed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .curves import COLUMNS, Curve, Log

_SIMPLE_INNER = re.compile(rb"(\w+)=([^,\s]+)")
# as --log-format simple has them, and json
_NAMES = {spelt: name for name in ("num_updates", *COLUMNS) for spelt in (name, name.encode())}
_SIMPLE_VALUES = re.compile(rb"\| (\w+) (\S+)")
_SUBSET = re.compile(rb"\| valid on '(.+?)' subset \|")
_JSON_TAG = re.compile(rb'"([^"]+)_num_updates"')
_MODEL = re.compile(
    r"--residual (\S+) --layer-sharing (\S+); parameter sets: (.+?); ([\d,]+) parameters \([\d,]+ without sharing\)"
)
_VOCABULARY = re.compile(r"dictionary: ([\d,]+) types|dictionary size \(.*\): ([\d,]+)")
_GAVE_UP = re.compile(
    r"(Minimum loss scale reached \([^)]*\)|gradients are Nan/Inf|Detected nan/inf grad norm"
    r"|^rank +\d+ = -?(?:nan|inf)\b)"
)


def read(path: Path) -> Log:
    """Read a log of ``--log-format simple``, ``json`` or ``tqdm``; a last line that is not complete is left out.

    Where a run was resumed, reports of its later start supersede the earlier ones from their update on.
    """
    log = Log()
    first = True
    with open(path, "rb") as file:
        for line in _complete_lines(file):
            # nearly all lines of a long log are these
            if b"train_inner" in line and b"num_updates" in line:
                first = not _training_report(log, line, first) and first
            elif b"num_updates" in line:
                _other_report(log, line)
            elif b"training on " in line and b" devices" in line:
                log.starts += 1
                log.ended = log.asked = False
                log.error = ""
                first = True
            else:
                _event(log, line.decode("utf-8", "replace"))
    return log


def _complete_lines(file) -> Iterator[bytes]:
    return (line for line in file if line.endswith(b"\n"))


def _training_report(log: Log, line: bytes, first: bool) -> bool:
    """Take a report of ``train_inner``; return whether it was a whole one."""
    values = _numbers(_json(line).items() if b"{" in line else _SIMPLE_INNER.findall(line))
    if not values.keys() >= {"num_updates", "loss"}:
        return False
    update = int(values["num_updates"])
    log.train.append(update, values, first)
    # validation after update U is logged after the report of U, and so is the end of an epoch
    for curve in (log.epochs, *log.valid.values()):
        curve.drop_from(update)
    log.gave_up = log.error = ""
    return True


def _other_report(log: Log, line: bytes) -> None:
    """Take a report of a validation or of an epoch."""
    tag = _JSON_TAG.search(line)
    if tag:
        name = tag[1].decode()
        found = [(key.removeprefix(f"{name}_"), value) for key, value in _json(line).items()]
    else:
        subset = _SUBSET.search(line)
        name = subset[1].decode() if subset else "train"
        found = _SIMPLE_VALUES.findall(line)
    values = _numbers(found)
    if not values.keys() >= {"num_updates", "loss"}:
        return
    curve = log.epochs if name == "train" else log.valid.setdefault(name, Curve())
    curve.append(int(values["num_updates"]), values)


def _event(log: Log, line: str) -> None:
    """Take what is said of the model, of the settings, and of the end."""
    if "'optimization': {" in line:
        _settings(log, line)
    elif found := _MODEL.search(line):
        sets = (stack.split() for stack in found[3].split(", "))
        log.model = (found[1], found[2], {name: indices for name, *indices in sets})
    elif found := re.search(r"num\. shared model params: ([\d,]+)", line):
        log.parameters = int(found[1].replace(",", ""))
    elif found := _VOCABULARY.search(line):
        # the target's comes last
        log.vocabulary = int((found[1] or found[2]).replace(",", ""))
    elif "done training in " in line:
        log.ended = True
    elif "asked to stop: " in line:
        log.asked = True
    elif found := _GAVE_UP.search(line):
        log.gave_up = found[1].strip()
    if found := re.match(r"(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception|KeyboardInterrupt)\b.{0,120})", line):
        log.error = found[1].strip()


def _settings(log: Log, line: str) -> None:
    if found := re.search(r"'max_update': (\d+)", line):
        log.max_update = int(found[1])
    log.sentence_avg = "'sentence_avg': True" in line
    found = re.search(r"'label_smoothing': ([\d.]+)", line)
    log.label_smoothing = float(found[1]) if found else 0.0


def _json(line: bytes) -> dict:
    try:
        values = json.loads(line[line.index(b"{") :])
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _numbers(values: Iterable[tuple]) -> dict[str, float]:
    """Return the numbers that curves have, those that are not finite as inf."""
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

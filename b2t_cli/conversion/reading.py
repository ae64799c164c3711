"""Opening a checkpoint of a release: torch's old format, with objects of classes that fairseq no longer has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from b2t_fairseq import checkpoints


class _Meter:
    """Stands in for a class of which only the old training statistics are instances; holds data, runs nothing."""


# one class each, since torch allows a global by its class as well as by its name
_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (type(name, (_Meter,), {}), f"fairseq.meters.{name}") for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
]


def read(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's content, of fairseq 0.8 and 0.9 too.

    Raises:
        InputError: see :func:`b2t_fairseq.checkpoints.load`.
    """
    with torch.serialization.safe_globals(_STAND_INS):
        return checkpoints.load(path)

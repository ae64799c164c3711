"""Opens a checkpoint of a release, which is in torch's old format and has objects of classes that fairseq removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from b2t_fairseq import checkpoints


class _Meter:
    """Takes the place of a class whose instances are old training statistics; it has data and runs nothing."""


# one class for each name, because torch looks up what is allowed by class and by name
_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (type(name, (_Meter,), {}), f"fairseq.meters.{name}") for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
]


def read(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint, which may be of fairseq 0.8 or 0.9.

    Raises:
        InputError: see :func:`b2t_fairseq.checkpoints.load`.
    """
    with torch.serialization.safe_globals(_STAND_INS):
        return checkpoints.load(path)

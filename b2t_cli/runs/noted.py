"""What ``scripts/train.sh`` notes in the folder of a run."""

from __future__ import annotations

import re
from pathlib import Path

from b2t_common import run_folder
from b2t_common.errors import InputError


def data_folder(folder: Path) -> Path:
    """Return the folder with the data of a run.

    Raises:
        InputError: the run was not begun by ``scripts/train.sh``.
    """
    return Path(_read(folder / run_folder.DATA).strip())


def update_size(folder: Path) -> int:
    """Return how many target tokens an update of a run has.

    Raises:
        InputError: the run was not begun by ``scripts/train.sh``, or without such a number.
    """
    settings = folder / run_folder.SETTINGS
    found = re.search(r'update_size="(\d+)"', _read(settings))
    if not found:
        raise InputError(f"{settings} has no update_size; give train.sh tokens_per_update or --update-freq")
    return int(found[1])


def _read(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} is missing; scripts/train.sh writes it when it begins a run")
    return path.read_text(encoding="utf-8")

"""The lock of a run's folder: one run at a time writes there.

It is a ``flock`` on one file, so that the kernel releases it when the last process of the run has ended, however that
ended.  ``scripts/train.sh`` takes the lock before ``b2t train`` does, and passes it on.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from b2t_common import run_folder
from b2t_common.errors import InputError

logger = logging.getLogger(__name__)

VARIABLE = "B2T_LOCK_FD"
"""The environment variable with the number of the open file that ``scripts/train.sh`` has locked."""

_held: set[int] = set()


class Lock:
    """A lock that this process has; a process that gets the object from another one has the lock too."""

    def __init__(self, file: int) -> None:
        self.file = file
        _held.add(file)

    def __reduce__(self) -> tuple[Any, ...]:
        # multiprocessing closes all other files in a process that it spawns.
        return _received, (reduction.DupFd(self.file),)


def _received(duplicate: Any) -> Lock:
    return Lock(duplicate.detach())


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Lock a run's folder, which is made if there is none; the lock is released at the end, or by a kill.

    Raises:
        InputError: another run is at work there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"--save-dir {folder}: there is a file of that name; give another folder") from None
    path = folder / run_folder.LOCK
    lock = Lock(_inherited(path) or os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    try:
        try:
            fcntl.flock(lock.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"a run is at work in {folder}; wait for it, or give another --save-dir ({path} is locked)"
            ) from None
        except OSError as error:
            logger.warning(f"{path} cannot be locked ({error}): make sure that no other run writes to this folder")
        yield lock
    finally:
        _held.discard(lock.file)
        os.close(lock.file)


def _inherited(path: Path) -> int | None:
    """Return the open file that the caller of this process has locked, if it is the one at ``path``."""
    number = os.environ.get(VARIABLE, "")
    if not number.isdecimal():
        return None
    try:
        if not os.path.samestat(os.fstat(int(number)), path.stat()):
            return None
    except OSError:
        return None
    os.set_inheritable(int(number), False)
    return int(number)


def _leave_to_parent() -> None:
    """Let a forked process, which loads data, not keep the lock of a run that was killed."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)

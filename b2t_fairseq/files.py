"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder for what becomes ``path`` when it is complete and on the disk."""
    unfinished = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all under temporary names first, renamed when all are on the disk.

    Raises:
        OSError: the disk is full; what was there is left as it was.
    """
    unfinished = {path: path.with_name(f"{path.name}.tmp{os.getpid()}") for path in contents}
    try:
        for path, temporary in unfinished.items():
            with open(temporary, "wb") as file:
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in unfinished.items():
            temporary.replace(path)
    finally:
        for temporary in unfinished.values():
            temporary.unlink(missing_ok=True)


def write_folder(folder: Path, contents: Mapping[str, bytes], known: Iterable[str]) -> None:
    """Write the files of ``--output`` into a folder, made if needed, all of them or none.

    Args:
        folder: where to.
        contents: the files by name.
        known: names that the command ever writes; one left by an earlier call that this one does not have is removed.

    Raises:
        InputError: the folder is a file, or lies in a folder that is missing.
        OSError: the disk is full; what was there is left as it was.
    """
    require_folder(folder)
    folder.mkdir(exist_ok=True)
    write_whole({folder / name: content for name, content in contents.items()})
    for name in set(known) - contents.keys():
        (folder / name).unlink(missing_ok=True)


def require_folder(folder: Path) -> None:
    """Raise InputError if ``--output`` is a file, or lies in a folder that is missing."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is a file; give a folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"--output {folder}: there is no folder {folder.absolute().parent}")

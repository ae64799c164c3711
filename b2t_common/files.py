"""Text files line by line, and files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Yield temporary names, in the same folders, of files that get their own when all are complete and on the disk."""
    unfinished = [path.with_name(f"{path.name}.tmp{os.getpid()}") for path in paths]
    try:
        yield unfinished
        for temporary in unfinished:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        for temporary, path in zip(unfinished, paths, strict=True):
            temporary.replace(path)
    finally:
        for temporary in unfinished:
            temporary.unlink(missing_ok=True)


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all under temporary names first, renamed when all are on the disk.

    Raises:
        OSError: the disk is full; what was there is left as it was.
    """
    with replacing(*contents) as unfinished:
        for temporary, content in zip(unfinished, contents.values(), strict=True):
            temporary.write_bytes(content)


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


def read_lines(path: Path) -> list[str]:
    """Return a file's lines; only LF ends a line, other Unicode line separators are text.

    Raises:
        InputError: the file is empty or not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}); convert it first, for instance with iconv") from None
    if not text:
        raise InputError(f"{path} is empty")
    return text.removesuffix("\n").split("\n")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by LF, all or none.

    Raises:
        InputError: the folder is missing.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    write_whole({path: "".join(f"{line}\n" for line in lines).encode()})

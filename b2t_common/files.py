"""Text files line by line, and files that are written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Yield temporary names, in the same folders, of files that are renamed when all of them are on the disk.

    If the block raises, the temporary files are removed, and files with the final names stay as they were.
    """
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
    """Write files that belong together, all of them or none.

    Raises:
        OSError: the disk is full; earlier files of these names stay as they were.
    """
    with replacing(*contents) as unfinished:
        for temporary, content in zip(unfinished, contents.values(), strict=True):
            temporary.write_bytes(content)


def write_folder(folder: Path, contents: Mapping[str, bytes], possible_names: Iterable[str]) -> None:
    """Write the files of ``--output`` into a folder, all of them or none; the folder is made if it is missing.

    Args:
        folder: where to write.
        contents: the files by name.
        possible_names: every name that the command may write; a file of such a name that is not in ``contents`` is
            from an earlier call, and is removed.

    Raises:
        InputError: the folder is a file, or the folder around it is missing.
        OSError: the disk is full; earlier files stay as they were.
    """
    require_folder(folder)
    folder.mkdir(exist_ok=True)
    write_whole({folder / name: content for name, content in contents.items()})
    for name in set(possible_names) - contents.keys():
        (folder / name).unlink(missing_ok=True)


def require_folder(folder: Path) -> None:
    """Raise InputError if ``--output`` is a file, or if the folder around it is missing."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is a file; give a folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"--output {folder}: there is no folder {folder.absolute().parent}")


def require_parent(file: Path) -> None:
    """Raise InputError if the folder of a file that is to be written is missing."""
    if not file.parent.is_dir():
        raise InputError(f"{file} cannot be written: there is no folder {file.parent}")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file.  Only LF ends a line; other line separators of Unicode are part of the text.

    Raises:
        InputError: the file is empty or not UTF-8.
    """
    content = path.read_bytes()
    if not content:
        raise InputError(f"{path} is empty")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, content.count(b"\n", 0, error.start) + 1, error) from None
    return text.removesuffix("\n").split("\n")


def decode_line(line: bytes, path: Path | str, number: int) -> str:
    """Return a line of a file as text.

    Args:
        line: the line.
        path: the file, for the message.
        number: the number of the line, counted from 1, for the message.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number, error) from None


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by LF, all of them or none.

    Raises:
        InputError: the folder is missing.
    """
    require_parent(path)
    write_whole({path: "".join(f"{line}\n" for line in lines).encode()})


def _not_utf8(path: Path | str, number: int, error: UnicodeDecodeError) -> InputError:
    return InputError(
        f"{path} is not UTF-8 in line {number} ({error.reason}); convert it first, for instance with iconv"
    )

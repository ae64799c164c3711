"""Text files line by line, and files that are written completely or not at all."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .errors import InputError

_MAX_LINKS = 40  # as in Linux


@contextmanager
def replacing(*paths: Path, follow_links: bool = True) -> Iterator[list[Path]]:
    """Yield temporary names, in the same folders, of files that are renamed when all of them are on the disk.

    If the block raises, the temporary files are removed, and files with the final names stay as they were.  Devices,
    pipes and ``/dev/stdout`` are never replaced: at the end, the content of a temporary file is written into them.

    Args:
        *paths: the files to write.
        follow_links: replace the file that a symbolic link points to rather than the link.

    Raises:
        InputError: one of them is a folder.
    """
    for path in paths:
        _refuse_folder(path)
    into_stream = [is_stream(path) for path in paths]
    targets = [
        _file_behind(path) if follow_links and not stream else path
        for path, stream in zip(paths, into_stream, strict=True)
    ]
    unfinished = [
        _temporary_file() if stream else target.with_name(f"{target.name}.tmp{os.getpid()}")
        for target, stream in zip(targets, into_stream, strict=True)
    ]
    try:
        yield unfinished
        for temporary in unfinished:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        # streams first: writing into them can fail
        for stream, temporary, target in sorted(zip(into_stream, unfinished, targets, strict=True), reverse=True):
            if stream:
                _write_into(target, temporary)
            else:
                temporary.replace(target)
    finally:
        for temporary in unfinished:
            temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Return whether a path is something to write into rather than to replace: a device, a pipe, ``/dev/stdout``."""
    try:
        mode = path.stat().st_mode
    except OSError:
        # /dev/stdout cannot be opened by its name when it is closed or a socket
        return _descriptor(path) is not None
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _descriptor(path) is not None


def messages_beside(output: Path | None) -> TextIO:
    """Return where to print messages: standard error if ``output`` is standard output, which they would damage."""
    return sys.stderr if output is not None and _descriptor(output) == 1 else sys.stdout


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a name such as ``/dev/stdout`` or ``/dev/fd/3`` stands for."""
    name = os.path.abspath(path)
    for _ in range(_MAX_LINKS):
        name = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
        if match := re.fullmatch(rf"/proc/{os.getpid()}/fd/(\d+)", name):
            return int(match[1])
        if not os.path.islink(name):
            break
        name = os.path.join(os.path.dirname(name), os.readlink(name))
    return None


def _file_behind(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _temporary_file() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="b2t-")
    os.close(descriptor)
    return Path(name)


def _write_into(stream: Path, content: Path) -> None:
    descriptor = _descriptor(stream)
    # what was printed before comes first
    sys.stdout.flush()
    # a second opening of /dev/stdout would write from the beginning of the file that it is redirected to
    opened = os.dup(descriptor) if descriptor is not None else os.open(stream, os.O_WRONLY)
    with open(opened, "wb") as target, open(content, "rb") as source:
        shutil.copyfileobj(source, target)


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder; give the name of a file")


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
    folder = _file_behind(folder)
    folder.mkdir(exist_ok=True)
    write_whole({folder / name: content for name, content in contents.items()})
    for name in set(possible_names) - contents.keys():
        (folder / name).unlink(missing_ok=True)


def require_folder(folder: Path) -> None:
    """Raise InputError if the folder of ``--output`` is a file, or if the folder around it is missing."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is a file; give a folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"--output {folder}: there is no folder {folder.absolute().parent}")


def require_file(file: Path) -> None:
    """Raise InputError if a file that is to be written is a folder, or if the folder around it is missing."""
    _refuse_folder(file)
    parent = _file_behind(file).parent if file.is_symlink() and not is_stream(file) else file.parent
    if not parent.is_dir():
        raise InputError(f"{file} cannot be written: there is no folder {parent}")


def is_one_of(file: Path, others: Iterable[Path]) -> bool:
    """Return whether a path leads to one of other files, however both are spelled."""
    return file.exists() and any(other.exists() and file.samefile(other) for other in others)


def refuse_overwriting(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Raise InputError if the file of ``--output`` is one of those that are read; ``None`` is not given."""
    if output is None or is_stream(output):
        return
    if is_one_of(output, (path for path in inputs if path is not None)):
        raise InputError(
            f"--output {output} is one of the files to read or a checkpoint of the run, and would be lost; give "
            "another file"
        )


def require_prefix(prefix: Path) -> None:
    """Raise InputError if the names of several files cannot begin with ``prefix``."""
    if prefix.is_dir() or is_stream(prefix):
        kind = "a folder" if prefix.is_dir() else "a device or a pipe"
        raise InputError(f"{prefix} is {kind}; give what the names of the files to write begin with")
    if not prefix.parent.is_dir():
        raise InputError(f"{prefix} cannot be written: there is no folder {prefix.parent}")


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
        raise _convert_first(path, content.count(b"\n", 0, error.start) + 1, error) from None
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
        raise _convert_first(path, number, error) from None


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by LF, all of them or none.

    Raises:
        InputError: the folder is missing, or the file is a folder.
    """
    require_file(path)
    write_whole({path: "".join(f"{line}\n" for line in lines).encode()})


def not_utf8(path: Path | str, number: int, error: UnicodeDecodeError) -> str:
    """Return what a message says of a file that is not UTF-8 in the line ``number``, counted from 1."""
    return f"{path} is not UTF-8 in line {number} ({error.reason})"


def _convert_first(path: Path | str, number: int, error: UnicodeDecodeError) -> InputError:
    return InputError(f"{not_utf8(path, number, error)}; convert it first, for instance with iconv")

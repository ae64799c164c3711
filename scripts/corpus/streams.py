"""Reads parallel text in blocks and processes the blocks on all cores; memory does not grow with the text."""

from __future__ import annotations

import gzip
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from b2t_common.errors import InputError
from b2t_common.files import decode_line, replacing, require_file

MAX_LINES = 10_000
MAX_BYTES = 4 << 20


def open_text(path: Path) -> BinaryIO:
    """Open a file for reading bytes, in which only LF ends a line; if its name ends in ``.gz``, unpack it."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]


def blocks(*paths: Path) -> Iterator[list[list[bytes]]]:
    """Yield blocks of consecutive lines of files that correspond line by line: a list for each file, without line ends.

    A block ends after ``MAX_LINES`` lines or ``MAX_BYTES`` bytes, whichever comes first.

    Raises:
        ValueError: one file ends before another.
        OSError: a packed file is truncated or damaged.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(open_text(path)) for path in paths]
        rows: list[tuple[bytes, ...]] = []
        size = 0
        for number, row in enumerate(zip_longest(*map(_lines, files, paths))):
            if None in row:
                counts = [
                    f"{path} {number + (line is not None) + sum(1 for _ in file)}"
                    for path, line, file in zip(paths, row, files, strict=True)
                ]
                raise ValueError(f"unequal numbers of lines ({', '.join(counts)}): the sides do not belong together")
            rows.append(row)
            size += sum(map(len, row))
            if len(rows) == MAX_LINES or size >= MAX_BYTES:
                yield _columns(rows)
                rows, size = [], 0
        if rows:
            yield _columns(rows)


def text_blocks(path: Path) -> Iterator[list[str]]:
    """Yield blocks of consecutive lines of one file as text, without line ends.

    Raises:
        InputError: a line is not UTF-8; the message has its number.
        OSError: see :func:`blocks`.
    """
    before = 0
    for (block,) in blocks(path):
        yield [decode_line(line, path, before + number) for number, line in enumerate(block, start=1)]
        before += len(block)


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{path} is cut short or damaged ({error})") from error


def _columns(rows: list[tuple[bytes, ...]]) -> list[list[bytes]]:
    return [[line.removesuffix(b"\n") for line in column] for column in zip(*rows, strict=True)]


def parallel_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int | None = None,
    initializer: Callable[..., None] | None = None,
    initargs: tuple = (),
) -> Iterator[Any]:
    """Yield ``function(item)`` in the order of the items, computed by several processes.

    Only a few items for each worker are read ahead, so that memory stays bounded for any number of items.

    Args:
        workers: number of processes (default: one for each core).
        initializer: called once in each process, with ``initargs``; what it raises is raised here.

    Raises:
        InputError: ``workers`` is not positive, or a process was killed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: give a positive number")
    workers = workers or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, initializer=_initialize, initargs=(initializer, initargs)) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_call, function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                f"one of {workers} processes was killed, perhaps because memory ran out; give a smaller --workers"
            ) from None


_failure: Exception | None = None


def _initialize(initializer: Callable[..., None] | None, initargs: tuple) -> None:
    """Keep an exception for the first call: one in an initializer ends the process, and only prints a traceback."""
    global _failure
    try:
        if initializer is not None:
            initializer(*initargs)
    except Exception as error:
        _failure = error


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    if _failure is not None:
        raise _failure
    return function(item)


@contextmanager
def whole_files(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Open files for writing bytes; they get their names only when all of them are complete.

    Raises:
        InputError: one of them is a folder, or its folder is missing.
    """
    for path in paths:
        require_file(path)
    with replacing(*paths) as unfinished, ExitStack() as stack:
        yield [stack.enter_context(open(path, "wb")) for path in unfinished]

"""Text files line by line, and what ``fairseq-generate`` prints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..files import write_whole


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


def read_generated(path: Path, expected: int) -> list[str]:
    """Return the best translation of each of ``expected`` sentences from fairseq's D- lines, in corpus order.

    Raises:
        InputError: translations are missing or there are too many.
    """
    best: dict[int, str] = {}
    for line in read_lines(path):
        identifier, *rest = line.split("\t", 2)
        # a run that was killed may leave part of a line
        if len(rest) == 2 and re.fullmatch(r"D-\d+", identifier):
            best.setdefault(int(identifier[2:]), rest[1])
    missing = [str(i) for i in range(expected) if i not in best]
    if missing or len(best) != expected:
        raise InputError(
            f"{path} has {len(best)} translations for {expected} references"
            + (f"; missing sentences: {', '.join(missing[:10])}" if missing else "")
            + "; generate with --required-batch-size-multiple 1 and without --skip-invalid-size-inputs-valid-test, "
            "or fairseq leaves sentences out"
        )
    return [best[i] for i in range(expected)]

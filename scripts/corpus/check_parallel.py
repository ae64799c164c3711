#!/usr/bin/env python3
"""Check that two files are the two sides of a parallel text: UTF-8, not empty, and of equally many lines.

check_parallel.py FILE FILE
"""

from __future__ import annotations

import sys

from b2t_common.errors import InputError
from b2t_common.files import decode_line


def count_lines(name: str) -> int:
    """Return the number of lines; only LF ends a line, and it may be missing at the end of the last line.

    Raises:
        InputError: the file is empty or not UTF-8; the message names the line.
    """
    lines = 0
    with open(name, "rb") as file:
        for lines, line in enumerate(file, start=1):
            decode_line(line, name, lines)
    if not lines:
        raise InputError(f"{name} is empty")
    return lines


def main() -> None:
    first, second = sys.argv[1:]
    try:
        counts = count_lines(first), count_lines(second)
    except (OSError, InputError) as error:
        sys.exit(f"error: {error}")
    if counts[0] != counts[1]:
        sys.exit(
            f"error: {first} has {counts[0]} lines, but {second} has {counts[1]}: the two sides do not belong together"
        )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Check that two files are the two sides of a parallel text: UTF-8, not empty, and of equally many lines.

check_parallel.py FILE FILE
"""

from __future__ import annotations

import sys


def count_lines(name: str) -> int:
    """Return the number of lines; only LF ends a line, and it may be missing at the end of the last line.

    Raises:
        ValueError: the file is empty or not UTF-8; the message names the line.
    """
    lines = 0
    with open(name, "rb") as file:
        for lines, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{name} is not UTF-8 in line {lines} ({error.reason}); convert it first, for instance with iconv"
                ) from None
    if not lines:
        raise ValueError(f"{name} is empty")
    return lines


def main() -> None:
    first, second = sys.argv[1:]
    try:
        counts = count_lines(first), count_lines(second)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if counts[0] != counts[1]:
        sys.exit(
            f"error: {first} has {counts[0]} lines, but {second} has {counts[1]}: the two sides do not belong together"
        )


if __name__ == "__main__":
    main()

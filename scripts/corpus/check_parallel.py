#!/usr/bin/env python3
"""Check that two files are the two sides of a parallel text: UTF-8, not empty, and of equally many lines.

check_parallel.py FILE FILE
"""

from __future__ import annotations

import sys

from b2t_common import programs
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
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    first, second = sys.argv[1:]
    counts = count_lines(first), count_lines(second)
    if counts[0] != counts[1]:
        raise InputError(
            f"{first} has {counts[0]} lines, but {second} has {counts[1]}: the two sides do not belong together"
        )


if __name__ == "__main__":
    sys.exit(programs.run("check_parallel.py", main))

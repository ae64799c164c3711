"""What the command lines of several commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from b2t_common.errors import InputError


def command_parser(name: str, main: Callable[..., Any], **options: Any) -> argparse.ArgumentParser:
    """Return a parser for ``b2t NAME``, whose description is the docstring of the command's ``main``.

    Args:
        name: the command.
        main: the function.
        **options: further arguments of the parser; a ``description`` takes the place of the docstring.
    """
    options.setdefault("description", " ".join((main.__doc__ or "").split()))
    return argparse.ArgumentParser(prog=f"b2t {name}", **options)


def add_output_folder(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--output DIR`` and ``--text``, which writes nothing, to a command that draws figures."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--output", type=Path, default=Path(default), metavar="DIR", help=f"where to write (default: {default})"
    )
    group.add_argument("--text", action="store_true", help="print the table only; needs no matplotlib")


def require_positive(flag: str, number: int | None) -> None:
    """Raise InputError if the number that is given with a flag is zero or negative; ``None`` is not given."""
    if number is not None and number < 1:
        raise InputError(f"{flag} {number}: give a positive number")

"""What every command and program of the project does first and last: UTF-8 output, and one line for an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import TextIOWrapper

from .errors import InputError


def use_utf8() -> None:
    """Write UTF-8 to standard output and standard error, whatever the locale and PYTHONIOENCODING say.

    A name of a file that is not UTF-8 is written byte for byte.
    """
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        # other programs, and tests, may have put something else in their place
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def run(name: str, main: Callable[[], int | None], *expected: type[Exception]) -> int:
    """Run a program; return its exit status, which is 1 if its input or its files cannot be used.

    Args:
        name: the program, for the message.
        main: the program itself; ``None`` is success.
        *expected: exceptions, beside those of the operating system, whose message says enough to the user.
    """
    input_errors: tuple[type[Exception], ...] = (InputError, *expected)
    use_utf8()
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except input_errors as error:
        message = str(error)
    except FileNotFoundError as error:
        # Python's own message does not say more than the name of the file; fairseq's say what is missing
        message = f"no such file or folder: {error.filename}" if error.filename else str(error)
    except BrokenPipeError:
        # the reader of the output, such as head, has ended
        message = ""
    except ConnectionError:
        # of processes that train together: where it happened matters
        raise
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    if message:
        print(f"{name}: error: {message}", file=sys.stderr)
    _drop_what_cannot_be_written()
    return 1


def _drop_what_cannot_be_written() -> None:
    """Leave nothing in the buffer of standard output that Python would fail to write, and report, when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

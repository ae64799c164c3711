"""How a benchmark shows what it measured, and where it leaves it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from b2t_common.files import write_whole


def finish(script: str, result: dict[str, Any], table: Callable[[dict[str, Any]], str], output: Path | None) -> None:
    """Add the command to a result, print it as text, and write both if asked to.

    Args:
        script: the benchmark's file.
        result: what was measured.
        table: makes Markdown of it.
        output: as :func:`write_result` takes it, ``None`` to write nothing.
    """
    result = {"command": shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]]), **result}
    text = table(result)
    print(text, end="")
    if output:
        write_result(result, text, output)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int, result: dict[str, Any], note: str) -> str:
    """Return a table with a note below it that ends with the machine and the command.

    Args:
        header: the columns' titles.
        rows: the cells.
        left: how many columns are text, the first ones.
        result: has ``machine`` and ``command``.
        note: what is to be known of the numbers, ending with a full stop.
    """
    about = f"{note} Machine: {result['machine']}. Command: `{result['command']}`"
    return f"{bare_table(header, rows, left)}\n{about}\n"


def bare_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a table as :func:`markdown` does, without a note."""
    alignment = ["---"] * left + ["--:"] * (len(header) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, alignment, *rows))


def write_result(result: dict[str, Any], text: str, output: Path) -> None:
    """Write OUTPUT.json and the same as text in OUTPUT.md, each whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    contents = {".json": json.dumps(result, indent=2) + "\n", ".md": text}
    write_whole({output.with_name(output.name + suffix): content.encode() for suffix, content in contents.items()})

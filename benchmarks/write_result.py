"""How a benchmark shows what it measured, and which files it writes."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from b2t_cli.tables import markdown_table
from b2t_common.files import write_whole


def print_and_write(
    name: str, result: dict[str, Any], markdown: Callable[[dict[str, Any]], str], output: Path | None
) -> None:
    """Add the command to a result, print the result as Markdown, and write both if there is an ``--output``.

    Args:
        name: the benchmark's module.
        result: what was measured.
        markdown: returns the result as Markdown.
        output: as :func:`write_result` takes it; ``None`` writes nothing.
    """
    result = {"command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]), **result}
    text = markdown(result)
    print(text, end="")
    if output:
        write_result(result, text, output)


def write_result(result: dict[str, Any], text: str, output: Path) -> None:
    """Write OUTPUT.json, the result, and OUTPUT.md, the text; either both files are written or none."""
    output.parent.mkdir(parents=True, exist_ok=True)
    contents = {".json": json.dumps(result, indent=2) + "\n", ".md": text}
    write_whole({output.with_name(output.name + suffix): content.encode() for suffix, content in contents.items()})


def table_with_note(
    header: Sequence[str], rows: Sequence[Sequence[str]], columns: str, result: dict[str, Any], note: str
) -> str:
    """Return a Markdown table, and below it a note that ends with the machine and the command.

    Args:
        header: names of the columns.
        rows: the cells.
        columns: the alignment, as :func:`b2t_cli.tables.markdown_table` takes it.
        result: has ``machine`` and ``command``.
        note: whole sentences that explain the numbers.
    """
    return f"{markdown_table(header, rows, columns)}\n\n{note} {origin(result)}\n"


def origin(result: dict[str, Any]) -> str:
    """Return the sentences that name a result's machine and command."""
    return f"Machine: {result['machine']}. Command: `{result['command']}`"


def medians(result: dict[str, Any], baseline: str = "") -> str:
    """Return the sentence that says what the numbers are: medians over rounds, ratios to a baseline."""
    relative = f", relative to {baseline}" if baseline else ""
    if result["rounds"] == 1:
        return f"One round{relative}."
    return f"Medians over {result['rounds']} rounds; each ratio is taken within one round{relative}."


def interval(limits: Sequence[float], decimals: int = 2) -> str:
    """Return two numbers, such as quartiles, as ``1.20 to 1.45``."""
    low, high = limits
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def memory(row: dict[str, Any]) -> str:
    """Return a row's peak memory in GB, and its ratio to that of the baseline."""
    return f"{row['peak_bytes'] / 1e9:.2f} GB, {row['memory_ratio']:.3f}"

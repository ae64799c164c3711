"""The page of a script that runs benchmarks in parts, FOLDER/summary.md: what each part gave, or why it gave nothing.

This module imports neither PyTorch nor fairseq.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from b2t_common.files import write_whole


def sections(folder: Path, script: str, parts: Mapping[str, str]) -> str:
    """Return a section for each part.

    Args:
        folder: where the script wrote its results.
        script: its name in ``benchmarks``.
        parts: its parts, and what the page calls them.
    """
    return "\n".join(f"**{title}**\n\n{_outcome(folder, script, part)}\n" for part, title in parts.items())


def _outcome(folder: Path, script: str, part: str) -> str:
    """Return the result of a part, or why there is none."""
    result, failure = (folder / f"{part}.{suffix}" for suffix in ("md", "failed"))
    if result.is_file():
        return result.read_text(encoding="utf-8").strip()
    if failure.is_file():
        return "No result:\n\n```\n" + failure.read_text(encoding="utf-8").strip() + "\n```"
    return f"Not run yet: `bash benchmarks/{script} --only {part}`"


def write_page(description: str | None, script: str, summary: Callable[[Path], str]) -> None:
    """Write and print the page of the folder that the command line names.

    Args:
        description: what ``--help`` says.
        script: name of the script that wrote the folder, in ``benchmarks``.
        summary: returns the page of a folder.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=f"where benchmarks/{script} wrote its results")
    args = parser.parse_args()
    text = summary(args.folder)
    write_whole({args.folder / "summary.md": text.encode()})
    print(text, end="")

"""The files of a report."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from b2t_common import __version__
from b2t_common.files import write_folder
from b2t_common.versions import installed_version

from .. import style
from ..runs.run import Run
from . import figures
from .against import FIGURE, Comparison
from .page import page
from .summary import score_tables, table

PAGE = "report.html"


def build(runs: Sequence[Run], command: str, comparison: Comparison | None = None) -> dict[str, bytes]:
    """Return the files of a report by name: the page, and each figure as PNG and SVG.

    Args:
        runs: the runs.
        command: the command line, for the footer of the page.
        comparison: the runs against the value of a setting, if that was asked for.

    Raises:
        InputError: matplotlib is missing.
    """
    style.require("report")
    drawn = figures.draw(runs)
    tables = [table(runs)]
    if comparison:
        drawn = {FIGURE: comparison.draw(), **drawn}
        tables.append(comparison.table())
    files = {f"{plot.name}.{kind}": content for plot, kinds in drawn.items() for kind, content in kinds.items()}
    svgs = {plot: kinds["svg"].decode("utf-8") for plot, kinds in drawn.items()}
    title = f"Training report: {runs[0].name if len(runs) == 1 else f'{len(runs)} runs'}"
    content = page(title, tables, score_tables(runs), svgs, _footer(runs, command))
    return {**files, PAGE: content.encode("utf-8")}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files of a report into a folder, all of them or none; return the path of the page.

    Raises:
        InputError: the folder is a file, or the folder around it is missing.
    """
    write_folder(folder, files, [f"{plot.name}.{kind}" for plot in (FIGURE, *figures.PLOTS) for kind in style.KINDS])
    return folder / PAGE


def _footer(runs: Sequence[Run], command: str) -> list[str]:
    newest = max(run.modified for run in runs)
    packages = {name: installed_version(name) for name in ("fairseq", "torch", "matplotlib")}
    versions = {"b2t_fairseq": __version__, **packages, "Python": platform.python_version()}
    return [
        f"Written {_when(time.time())}; the newest log is of {_when(newest)}.",
        f"Command: {command}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds))

"""Tables as text, Markdown and LaTeX, and the files that hold them together with their numbers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b2t_common.files import require_prefix, write_whole

_LATEX = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
    }
)
RULE: list[str] = []
"""Among the rows of a table: a line between two rows."""


@dataclass
class Table:
    """A table whose cells are text.

    Attributes:
        title: one line of text.
        header: names of the columns.
        rows: the cells of each row, or ``RULE``.
        notes: sentences below the table.
        left: how many columns, counted from the first, are text and aligned on the left; the others are numbers.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    left: int = 1

    def text(self) -> str:
        """Return the table for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *filter(None, self.rows), strict=True)]
        rule = "-" * (sum(widths) + 2 * len(widths) - 2)
        lines = []
        for row in [self.header, RULE, *self.rows]:
            cells = [f"{cell:{'<' if i < self.left else '>'}{widths[i]}}" for i, cell in enumerate(row)]
            lines.append("  ".join(cells).rstrip() if row else rule)
        return "\n".join([self.title, "", *lines, "", *self.notes])

    def markdown(self) -> str:
        """Return the table in Markdown, which has no lines between rows."""
        header, *rows = [[_markdown(cell) for cell in row] for row in [self.header, *filter(None, self.rows)]]
        notes = [f"- `{note}`" if "|" in note else f"- {_markdown(note)}" for note in self.notes]
        return "\n".join([f"**{self.title}**", "", markdown_table(header, rows, self._columns()), "", *notes])

    def latex(self) -> str:
        r"""Return a ``tabular`` for ``\usepackage{booktabs}``; title and notes are comments."""
        rows = [self.header, RULE, *self.rows]
        lines = [" & ".join(map(_latex, row)) + r" \\" if row else r"\midrule" for row in rows]
        comments = [f"% {' '.join(line.split())}" for line in (self.title, *self.notes)]
        tabular = [rf"\begin{{tabular}}{{{self._columns()}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"]
        return "\n".join([r"% needs \usepackage{booktabs}", *comments, *tabular])

    def _columns(self) -> str:
        return "l" * self.left + "r" * (len(self.header) - self.left)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], columns: str) -> str:
    """Return a table in Markdown without title and notes.

    Args:
        header: names of the columns.
        rows: the cells.  They are Markdown, such as links, so nothing in them is escaped.
        columns: the alignment of each column, written as in LaTeX: ``"lrr"`` for one of text and two of numbers.

    Raises:
        ValueError: a row, the header or ``columns`` is shorter than the others.
    """
    rule = [{"l": "---", "r": "--:"}[column] for column in columns]
    lines = [header, rule, *rows]
    if {len(cells) for cells in lines} != {len(header)}:
        raise ValueError(f"the rows of the table {' | '.join(header)} have different numbers of cells")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float | None, sign: str = "") -> str:
    """Return a number with two decimals, or ``-`` for ``None``; with ``sign="+"`` a positive number has a sign too."""
    return "-" if value is None else f"{value:{sign}.2f}"


def labels(folders: Iterable[str | Path], length: int = 1) -> list[str]:
    """Return short names of folders: the last ``length`` parts of each path, or as many as make all names different."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    while True:
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names) or length >= max(map(len, parts)):
            return names
        length += 1


def write(prefix: Path, data: dict[str, Any], tables: list[Table]) -> None:
    """Write PREFIX.md, PREFIX.tex and, with the unrounded numbers, PREFIX.json; all of them or none.

    Raises:
        InputError: the folder is missing, or ``prefix`` is a folder.
    """
    require_prefix(prefix)
    contents = {
        "md": "\n\n".join(table.markdown() for table in tables),
        "tex": "\n\n".join(table.latex() for table in tables),
        "json": json.dumps(data, indent=2, ensure_ascii=False),
    }
    write_whole({prefix.with_name(f"{prefix.name}.{end}"): f"{text}\n".encode() for end, text in contents.items()})


def _markdown(text: str) -> str:
    return re.sub(r"([|*_<\\])", r"\\\1", text)


def _latex(cell: str) -> str:
    if cell == "-":
        return "--"
    cell = re.sub(r"^-(?=\d)", "$-$", cell.translate(_LATEX))
    # directly after the \\ of the row above, these characters would be its argument
    return f"{{}}{cell}" if cell.startswith(("[", "*")) else cell

"""The look of all figures, and how they become files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from b2t_common.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# the colours of Okabe and Ito, which colour-blind people can tell apart; yellow is darker, to be visible on white
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b38f00", "#56b4e9", "#7a5195", "#6b6b6b")
DASHES = ((), (5, 1.5), (1.2, 1.2), (6, 1.5, 1.2, 1.5), (3, 1.2))
INK, GRID = "#1f2328", "#d0d3d8"

KINDS = ("png", "svg")
"""The formats in which every figure is written."""


def require(command: str) -> None:
    """Raise InputError if matplotlib is missing, which the figures of ``b2t COMMAND`` need."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(
            f"b2t {command} needs matplotlib for its figures: pip install 'b2t_fairseq[report]'; "
            "with --text it prints the table and needs no package"
        ) from None


def applied() -> AbstractContextManager:
    """Return a context in which figures are drawn in this style."""
    from matplotlib import rc_context

    text = {"svg.fonttype": "none", "svg.hashsalt": "b2t", "font.size": 9, "font.family": "sans-serif"}
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK)
    settings: dict[Any, Any] = {**text, **ink, "axes.spines.top": False, "axes.spines.right": False}
    return rc_context(settings)


def line(index: int) -> dict[str, Any]:
    """Return colour, dashes and width of a line, given its number in the figure; no two lines look the same."""
    # when the colours are used up, they begin again with other dashes
    dashes = DASHES[(index + index // len(COLORS)) % len(DASHES)]
    return {"color": COLORS[index % len(COLORS)], "linestyle": (0, dashes) if dashes else "-", "linewidth": 1.4}


def title(axes: Axes, text: str) -> None:
    """Give axes a title and a grid."""
    # matplotlib would take dollar signs in a name for a formula
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold", parse_math=False)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def shortened(name: str, length: int = 46) -> str:
    """Return a name; if it is longer than ``length``, an ellipsis stands for its middle."""
    half = length // 2
    return name if len(name) <= length else f"{name[: half - 1]}\u2026{name[-half:]}"


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Write the names of the lines below a figure."""
    # matplotlib hides names that begin with an underscore, and takes dollar signs for a formula
    placeholders = [f"line {index}" for index in range(len(names))]
    drawn = figure.legend(handles, placeholders, loc="outside lower left", frameon=False, handlelength=3.4)
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def files(figure: Figure) -> dict[str, bytes]:
    """Return a figure in every format, by the name of the format; equal figures give equal files."""
    contents = {}
    for kind in KINDS:
        file = io.BytesIO()
        # a date in the file would differ from call to call
        figure.savefig(file, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
        contents[kind] = file.getvalue()
    return contents

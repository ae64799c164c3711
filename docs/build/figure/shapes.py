"""What both diagrams are drawn with: text, arrows, backgrounds and groups, each a piece of SVG.

Lengths are in units of the viewBox, which are pixels if the figure is shown at its full width.  y grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

WIDTH = 880  # of the figure
MARGIN, COLUMN_GAP = 24, 20
HEAD, BYPASS_HEAD = 10, 17  # sizes of arrow heads


def text(x: int, y: int, content: str, style: str) -> str:
    """Return one line of text with its baseline at ``y``."""
    return f'<text class="{style}" x="{x}" y="{y}">{content}</text>'


def arrow_up(x: int, start: int, end: int) -> str:
    """Return a vertical arrow with its tip at ``end``."""
    return f'<path class="line" marker-end="url(#head)" d="M{x} {start}V{end + HEAD}"/>'


def arrow_heads() -> str:
    """Return the definitions of both arrow heads."""
    return f"<defs>{_arrow_head('head', HEAD)}{_arrow_head('bypass-head', BYPASS_HEAD)}</defs>"


def _arrow_head(name: str, size: int) -> str:
    """Return the definition of an arrow head, which makes a line longer by ``size``."""
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="0.5" refY="5" markerWidth="{size}"'
        f' markerHeight="{size}" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path class="{name}" d="M0 0L10 5L0 10z"/></marker>'
    )


def panel(left: int, top: int, width: int, height: int, style: str) -> str:
    """Return a background with round corners."""
    return f'<rect class="{style}" x="{left}" y="{top}" width="{width}" height="{height}" rx="12"/>'


def group(name: str, *parts: str) -> str:
    """Return the parts as one group; tests look it up by its name."""
    return "\n".join([f'<g id="{name}">', *parts, "</g>"])


def columns(items: Sequence[Item]) -> list[tuple[int, int, Item]]:
    """Place the items side by side; return the left edge and the width of each, and the item."""
    width = (WIDTH - 2 * MARGIN + COLUMN_GAP) // len(items) - COLUMN_GAP
    return [(MARGIN + number * (width + COLUMN_GAP), width, item) for number, item in enumerate(items)]

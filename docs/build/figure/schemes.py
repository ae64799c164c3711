"""The upper diagram: one encoder layer for each residual scheme."""

from __future__ import annotations

import re
from dataclasses import dataclass

from docs.build.figure.shapes import BYPASS_HEAD, HEAD, MARGIN, arrow_up, columns, group, panel, text

TOP, HEIGHT = 94, 568  # of the panels
BOX_WIDTH, BOX_HEIGHT, ADD_RADIUS = 104, 38, 13
FORK_GAP, FORK, GAP = 42, 12, 22  # below a sub-layer's first block; from there up to the fork; below other blocks
DETOUR, BEND = 84, 12  # from the main line to the vertical part of a residual connection; radius of its corners


@dataclass(frozen=True)
class Scheme:
    """A residual scheme.

    Attributes:
        name: what the papers call it.
        wrapping: what one sub-layer ``f`` becomes, from the bottom to the top.
        equations: those of an encoder layer, one for each sub-layer.
        bypass_term: what a connection from the layer's input adds to the last equation.
    """

    name: str
    wrapping: tuple[str, str, str]
    equations: tuple[str, str]
    bypass_term: str = ""


SCHEMES = (
    Scheme("Post-LN", ("f", "+", "LN"), ("h = LN(x + SA(x))", "out = LN(h + FFN(h))")),
    Scheme("Pre-LN", ("LN", "f", "+"), ("h = x + SA(LN(x))", "out = h + FFN(LN(h))")),
    Scheme("B2T", ("f", "+", "LN"), ("h = LN(x + SA(x))", "out = LN(x + h + FFN(h))"), bypass_term="x +"),
)


def draw_schemes() -> list[str]:
    """Return a group for each scheme, side by side."""
    groups = []
    for left, width, scheme in columns(SCHEMES):
        background = panel(left, TOP, width, HEIGHT, "b2t-panel" if scheme.bypass_term else "panel")
        groups.append(group(f"scheme-{scheme.name}", background, _layer(scheme, left + width // 2)))
    return groups


def headings() -> list[str]:
    """Return the diagram's heading and the note under it."""
    abbreviations = "SA: self-attention, FFN: feed-forward network, LN: layer normalization"
    return [
        text(MARGIN, TOP - 48, "Residual schemes: one encoder layer", "heading"),
        text(MARGIN, TOP - 18, abbreviations, "note"),
    ]


def _layer(scheme: Scheme, x: int) -> str:
    """Return an encoder layer with its input at the bottom, and the scheme's name and equations under it."""
    bottom = TOP + HEIGHT
    layer_input = y = bottom - 134
    connections: list[str] = []
    blocks = [text(x, layer_input + 19, "x", "variable")]
    for sublayer in ("SA", "FFN"):
        fork = y - FORK
        blocks.append(f'<circle class="head" cx="{x}" cy="{fork}" r="4.5"/>')
        for position, kind in enumerate(scheme.wrapping):
            start, y = y, y - (GAP if position else FORK_GAP)
            connections.append(arrow_up(x, start, y))
            height = 2 * ADD_RADIUS if kind == "+" else BOX_HEIGHT
            middle = y - height // 2
            if kind == "+":
                connections.append(_residual_connection(x, fork, middle))
                last_sum = middle
            blocks.append(_block(sublayer if kind == "f" else kind, x, middle))
            y -= height
        if sublayer == "SA":
            blocks.append(text(x - 14, y - FORK - 2, "h", "variable"))
    connections.append(arrow_up(x, y, y - GAP))
    blocks.append(text(x, y - GAP - 8, "out", "output"))
    if scheme.bypass_term:
        connections.append(_bypass(x, layer_input - FORK, last_sum))
    caption = [
        text(x, bottom - 76, scheme.name, "name"),
        _equation(x, bottom - 46, scheme.equations[0]),
        _equation(x, bottom - 19, scheme.equations[1], scheme.bypass_term),
    ]
    return "\n".join(connections + blocks + caption)


def _block(name: str, x: int, middle: int) -> str:
    """Return a sum, which is a circle with a plus sign, or a norm or sub-layer, which is a box with its name."""
    if name == "+":
        arm = ADD_RADIUS - 6
        return (
            f'<circle class="add" cx="{x}" cy="{middle}" r="{ADD_RADIUS}"/>'
            f'<path class="line" d="M{x - arm} {middle}h{2 * arm}M{x} {middle - arm}v{2 * arm}"/>'
        )
    style = "norm" if name == "LN" else "sublayer"
    return (
        f'<rect class="{style}" x="{x - BOX_WIDTH // 2}" y="{middle - BOX_HEIGHT // 2}"'
        f' width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7"/>' + text(x, middle + 7, name, "block-name")
    )


def _residual_connection(x: int, start: int, end: int) -> str:
    """Return a connection from the fork at ``start`` to the sum at ``end``, to the right of the main line."""
    tip = x + ADD_RADIUS + HEAD
    return (
        f'<path class="line" marker-end="url(#head)" d="M{x} {start}h{DETOUR - BEND}q{BEND} 0 {BEND} -{BEND}'
        f'V{end + BEND}q0 -{BEND} -{BEND} -{BEND}H{tip}"/>'
    )


def _bypass(x: int, start: int, end: int) -> str:
    """Return the bottom-to-top connection with its name, to the left of the main line; it avoids all norms but one."""
    tip = x - ADD_RADIUS - BYPASS_HEAD
    name_x, name_y = x - DETOUR - 16, (start + end) // 2
    return (
        f'<path class="bypass" marker-end="url(#bypass-head)" d="M{x} {start}h-{DETOUR - BEND}'
        f'q-{BEND} 0 -{BEND} -{BEND}V{end + BEND}q0 -{BEND} {BEND} -{BEND}H{tip}"/>\n'
        f'<text class="bypass-text" transform="translate({name_x} {name_y}) rotate(-90)">'
        "bottom-to-top connection</text>"
    )


def _equation(x: int, y: int, content: str, bypass_term: str = "") -> str:
    """Return an equation with its variables in italics and ``bypass_term`` in the colour of B2T."""
    if bypass_term:
        content = content.replace(bypass_term, f'<tspan class="bypass-text">{bypass_term}</tspan>', 1)
    content = re.sub(r"\b[xh]\b", r'<tspan class="variable">\g<0></tspan>', content)
    return text(x, y, content, "equation")

"""Draw the README's figure, ``docs/figure.svg``: the residual schemes and the sharing strategies.

    python docs/build/draw_figure.py           write the figure
    python docs/build/draw_figure.py --check   exit 1 if the figure on disk is not what would be drawn

Needs only the standard library. The numbers in the sharing stacks come from ``b2t_fairseq/sharing.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

DOCS = Path(__file__).resolve().parent
Item = TypeVar("Item")

FIGURE = DOCS / "figure.svg"
SHARING = DOCS.parent / "b2t_fairseq" / "sharing.py"

NUM_LAYERS, NUM_UNIQUE_LAYERS = 6, 3

# Lengths are in units of the viewBox: pixels when the figure is shown 880 wide. y grows downwards.
WIDTH, HEIGHT = 880, 1096
MARGIN, COLUMN_GAP = 24, 20
SCHEMES_TOP, SCHEMES_HEIGHT = 94, 568
STACKS_TOP, STACKS_HEIGHT = 760, 312
BOX_WIDTH, BOX_HEIGHT, ADD_RADIUS = 104, 38, 13
GAP, FORK_GAP, FORK = 22, 42, 12  # below a block; below a forked block; from there up to the fork
DETOUR, BEND = 84, 12  # from the main line to a residual connection's vertical part; its corner radius
HEAD, BYPASS_HEAD = 10, 17  # arrow heads
LAYER_WIDTH, LAYER_HEIGHT, LAYER_STEP = 112, 32, 37
LABELS_WIDTH = 40  # how much further right the labels to the left of it put a stack

FONTS = """\
text { font-family: sans-serif; font-size: 19px; text-anchor: middle }
.heading { font-size: 23px; font-weight: bold; text-anchor: start }
.note { font-size: 19px; text-anchor: start }
.name { font-size: 22px; font-weight: bold }
.block-name, .set-number, .bypass-text { font-weight: bold }
.variable { font-style: italic }
.end { font-size: 17px }
.line { fill: none; stroke-width: 2 }
.bypass { fill: none; stroke-width: 5 }
.set-number { fill: #1f2328 }"""

COLOURS = """\
.card {{ fill: {card}; stroke: {edge} }}
.panel {{ fill: {panel} }}
.b2t-panel {{ fill: {b2t_panel}; stroke: {b2t}; stroke-width: 2 }}
text {{ fill: {ink} }}
.note, .end {{ fill: {muted} }}
.sublayer, .add {{ fill: {card}; stroke: {ink}; stroke-width: 2 }}
.norm {{ fill: {norm}; stroke: {ink}; stroke-width: 2 }}
.line {{ stroke: {ink} }}
.head {{ fill: {ink} }}
.bypass {{ stroke: {b2t} }}
.bypass-head, .bypass-text {{ fill: {b2t} }}"""
LIGHT = {
    "card": "#ffffff",
    "panel": "#f3f5f7",
    "edge": "#d0d7de",
    "ink": "#1f2328",
    "muted": "#57606a",
    "norm": "#d3dae1",
    "b2t": "#b84a00",
    "b2t_panel": "#fff3e8",
}
DARK = {
    "card": "#0d1117",
    "panel": "#1a2029",
    "edge": "#3d444d",
    "ink": "#f0f3f6",
    "muted": "#a9b3be",
    "norm": "#444d59",
    "b2t": "#ff9440",
    "b2t_panel": "#2b2019",
}
SET_COLOURS = ("#56b4e9", "#e69f00", "#009e73")  # from Okabe and Ito's palette for colour-blind readers


@dataclass(frozen=True)
class Scheme:
    """A residual scheme: how it wraps one sub-layer ``f``, from the bottom up, and the layer's equations."""

    name: str
    wrapping: tuple[str, str, str]
    equations: tuple[str, str]
    bypass_term: str = ""  # what a connection from the layer's input adds to the last equation


SCHEMES = (
    Scheme("Post-LN", ("f", "+", "LN"), ("h = LN(x + SA(x))", "out = LN(h + FFN(h))")),
    Scheme("Pre-LN", ("LN", "f", "+"), ("h = x + SA(LN(x))", "out = h + FFN(LN(h))")),
    Scheme("B2T", ("f", "+", "LN"), ("h = LN(x + SA(x))", "out = LN(x + h + FFN(h))"), bypass_term="x +"),
)


def sharing_lists() -> dict[str, list[int]]:
    """Return each sharing strategy's parameter set per layer, without importing torch or fairseq."""
    spec = importlib.util.spec_from_file_location("b2t_sharing", SHARING)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {SHARING}")
    sharing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sharing)
    strategies = [name for name in sharing.STRATEGIES if name != "none"]
    return {name: sharing.layer_indices(name, NUM_LAYERS, NUM_UNIQUE_LAYERS) for name in strategies}


def text(x: int, y: int, content: str, style: str) -> str:
    """Return one line of text, its baseline at ``y``."""
    return f'<text class="{style}" x="{x}" y="{y}">{content}</text>'


def equation(x: int, y: int, content: str, bypass_term: str = "") -> str:
    """Return an equation with its variables in italics and ``bypass_term`` in the B2T colour."""
    if bypass_term:
        content = content.replace(bypass_term, f'<tspan class="bypass-text">{bypass_term}</tspan>', 1)
    content = re.sub(r"\b[xh]\b", r'<tspan class="variable">\g<0></tspan>', content)
    return text(x, y, content, "equation")


def arrow_up(x: int, start: int, end: int) -> str:
    """Return a vertical arrow whose tip is at ``end``."""
    return f'<path class="line" marker-end="url(#head)" d="M{x} {start}V{end + HEAD}"/>'


def residual(x: int, start: int, end: int) -> str:
    """Return a residual connection: from the fork at ``start``, round the right, to the sum at ``end``."""
    tip = x + ADD_RADIUS + HEAD
    return (
        f'<path class="line" marker-end="url(#head)" d="M{x} {start}h{DETOUR - BEND}q{BEND} 0 {BEND} -{BEND}'
        f'V{end + BEND}q0 -{BEND} -{BEND} -{BEND}H{tip}"/>'
    )


def bypass(x: int, start: int, end: int) -> str:
    """Return the bottom-to-top connection: round the left, past every norm but the last, with its name."""
    tip = x - ADD_RADIUS - BYPASS_HEAD
    name_x, name_y = x - DETOUR - 16, (start + end) // 2
    return (
        f'<path class="bypass" marker-end="url(#bypass-head)" d="M{x} {start}h-{DETOUR - BEND}'
        f'q-{BEND} 0 -{BEND} -{BEND}V{end + BEND}q0 -{BEND} {BEND} -{BEND}H{tip}"/>\n'
        f'<text class="bypass-text" transform="translate({name_x} {name_y}) rotate(-90)">'
        "bottom-to-top connection</text>"
    )


def block(name: str, x: int, middle: int) -> str:
    """Return a sum (a circle with a plus sign), a norm or a sub-layer (a box with its name)."""
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


def draw_scheme(scheme: Scheme, x: int) -> str:
    """Return one encoder layer, its input at the bottom, with the scheme's name and equations under it."""
    bottom = SCHEMES_TOP + SCHEMES_HEIGHT
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
                connections.append(residual(x, fork, middle))
                last_sum = middle
            blocks.append(block(sublayer if kind == "f" else kind, x, middle))
            y -= height
        if sublayer == "SA":
            blocks.append(text(x - 14, y - FORK - 2, "h", "variable"))
    connections.append(arrow_up(x, y, y - GAP))
    blocks.append(text(x, y - GAP - 8, "out", "output"))
    if scheme.bypass_term:
        connections.append(bypass(x, layer_input - FORK, last_sum))
    caption = [
        text(x, bottom - 76, scheme.name, "name"),
        equation(x, bottom - 46, scheme.equations[0]),
        equation(x, bottom - 19, scheme.equations[1], scheme.bypass_term),
    ]
    return "\n".join(connections + blocks + caption)


def draw_stack(strategy: str, indices: Sequence[int], x: int) -> str:
    """Return a stack of layers, the first at the bottom, each with its parameter set's number and colour."""
    x += LABELS_WIDTH // 2
    bottom = STACKS_TOP + STACKS_HEIGHT
    left, first = x - LAYER_WIDTH // 2, bottom - 72 - LAYER_HEIGHT
    parts = []
    for layer, index in enumerate(indices):
        top = first - layer * LAYER_STEP
        parts.append(
            f'<rect x="{left}" y="{top}" width="{LAYER_WIDTH}" height="{LAYER_HEIGHT}" rx="6"'
            f' fill="{SET_COLOURS[index]}"/>' + text(x, top + 23, str(index), "set-number")
        )
    last, label_x = first - (len(indices) - 1) * LAYER_STEP, left - 40
    parts += [
        text(label_x, first + 22, "layer 1", "end"),
        arrow_up(label_x, first - 2, last + LAYER_HEIGHT + 2),
        text(label_x, last + 22, f"layer {len(indices)}", "end"),
        text(x, bottom - 43, "--layer-sharing", "flag"),
        text(x, bottom - 17, strategy, "name"),
    ]
    return "\n".join(parts)


def columns(items: Sequence[Item]) -> list[tuple[int, int, Item]]:
    """Place the items side by side: return each one's left edge, its width and itself."""
    width = (WIDTH - 2 * MARGIN + COLUMN_GAP) // len(items) - COLUMN_GAP
    return [(MARGIN + number * (width + COLUMN_GAP), width, item) for number, item in enumerate(items)]


def panel(left: int, top: int, width: int, height: int, style: str) -> str:
    """Return a rounded background."""
    return f'<rect class="{style}" x="{left}" y="{top}" width="{width}" height="{height}" rx="12"/>'


def group(name: str, *parts: str) -> str:
    """Return the parts as one group, which tests find by its name."""
    return "\n".join([f'<g id="{name}">', *parts, "</g>"])


def marker(name: str, size: int) -> str:
    """Return the definition of an arrow head, which continues a line by ``size``."""
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="0.5" refY="5" markerWidth="{size}"'
        f' markerHeight="{size}" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path class="{name}" d="M0 0L10 5L0 10z"/></marker>'
    )


def description(sharing: dict[str, list[int]]) -> str:
    """Return the figure in words, for screen readers."""
    schemes = "; ".join(f"{scheme.name}: {', '.join(scheme.equations)}" for scheme in SCHEMES)
    stacks = "; ".join(f"{name}: {' '.join(map(str, indices))}" for name, indices in sharing.items())
    return (
        f"Residual schemes of an encoder layer with input x. {schemes}. B2T is Post-LN with one more residual"
        " connection, from the layer's input to the sum before the last layer normalization."
        f" Parameter sets of {NUM_LAYERS} layers, first layer first, by sharing strategy. {stacks}."
    )


def headings() -> list[str]:
    """Return the two parts' headings, each with a note under it."""
    sets = f"N = {NUM_LAYERS} layers, M = {NUM_UNIQUE_LAYERS} parameter sets"
    abbreviations = "SA: self-attention, FFN: feed-forward network, LN: layer normalization"
    return [
        text(MARGIN, SCHEMES_TOP - 48, "Residual schemes: one encoder layer", "heading"),
        text(MARGIN, SCHEMES_TOP - 18, abbreviations, "note"),
        text(MARGIN, STACKS_TOP - 48, "Layer sharing: one stack of layers", "heading"),
        text(MARGIN, STACKS_TOP - 18, f"{sets}; same colour and number: same parameters", "note"),
    ]


def draw() -> str:
    """Return the whole figure as SVG."""
    sharing = sharing_lists()
    dark = f"@media (prefers-color-scheme: dark) {{\n{COLOURS.format_map(DARK)}\n}}"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">',
        '<title id="title">Residual schemes and layer sharing strategies</title>',
        f'<desc id="description">{description(sharing)}</desc>',
        f"<style>\n{FONTS}\n{COLOURS.format_map(LIGHT)}\n{dark}\n</style>",
        f"<defs>{marker('head', HEAD)}{marker('bypass-head', BYPASS_HEAD)}</defs>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="16"/>',
        *headings(),
    ]
    for left, width, scheme in columns(SCHEMES):
        style = "b2t-panel" if scheme.bypass_term else "panel"
        background = panel(left, SCHEMES_TOP, width, SCHEMES_HEIGHT, style)
        parts.append(group(f"scheme-{scheme.name}", background, draw_scheme(scheme, left + width // 2)))
    for left, width, (strategy, indices) in columns(tuple(sharing.items())):
        background = panel(left, STACKS_TOP, width, STACKS_HEIGHT, "panel")
        stack = draw_stack(strategy, indices, left + width // 2)
        parts.append(group(f"sharing-{strategy}", background, stack))
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figure, or compare it with the file on disk; return the exit status."""
    parser = argparse.ArgumentParser(description="Draw the README's figure, docs/figure.svg.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the figure is out of date")
    check = parser.parse_args(arguments).check
    figure = draw()
    if not check:
        temporary = FIGURE.with_suffix(".svg.tmp")
        temporary.write_text(figure, encoding="utf-8")
        os.replace(temporary, FIGURE)
    elif not FIGURE.is_file() or FIGURE.read_text(encoding="utf-8") != figure:
        print(f"{FIGURE} is out of date: run python docs/build/draw_figure.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Fonts and colours of the figure as a style sheet, for light and for dark pages."""

from __future__ import annotations

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


def style_sheet() -> str:
    """Return the ``style`` element."""
    dark = f"@media (prefers-color-scheme: dark) {{\n{COLOURS.format_map(DARK)}\n}}"
    return f"<style>\n{FONTS}\n{COLOURS.format_map(LIGHT)}\n{dark}\n</style>"

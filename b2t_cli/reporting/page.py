"""The report as one HTML page, without scripts, that needs no other file and no network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from ..runs.divergence import DIVERGED
from ..style import COLORS, GRID, INK
from ..tables import RULE, Table
from .figures import Plot

# the colours of the lines on a dark background
DARK_COLORS = ("#5aa9e6", "#f0883e", "#2fbf92", "#e39cc5", "#d8b52f", "#8fd0f7", "#b48ad0", "#a8a8a8")
DARK_INK, DARK_GRID, DARK_PAPER = "#e6e8eb", "#3a3f46", "#15181c"

STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:84rem;padding:1rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.25rem 0 1rem}
h2{font-size:1.15rem;margin:2rem 0 .5rem}
.scroll{overflow-x:auto;border:1px solid var(--grid);border-radius:.4rem}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .7rem;text-align:right;white-space:nowrap}
th{border-bottom:1px solid var(--ink);font-weight:600}
th.text,td.text{text-align:left}
td:first-child{white-space:normal;min-width:9rem;max-width:16rem}
tr.rule td{border-top:1px solid var(--ink)}
tbody tr:nth-child(even){background:color-mix(in srgb,var(--grid) 30%,transparent)}
.diverged{color:var(--alarm);font-weight:600}
ul{font-size:.875rem;padding-left:1.1rem;margin:.6rem 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem;align-items:start}
figure{margin:0}
figure svg{display:block;width:100%;height:auto}
footer{margin-top:2rem;padding-top:.6rem;border-top:1px solid var(--grid);font-size:.8rem}
"""


def page(
    title: str, tables: Sequence[Table], scores: Sequence[Table], figures: Mapping[Plot, str], footer: Sequence[str]
) -> str:
    """Return the whole page.

    Args:
        title: the heading.
        tables: the tables above the figures.
        scores: the tables below the figures.
        figures: the figures as SVG files.
        footer: the lines at the end.
    """
    drawn = "\n".join(
        f'<figure id="{plot.name}">\n{inline(svg, plot.name, plot.title)}\n</figure>' for plot, svg in figures.items()
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        *map(_section, tables),
        f'<section>\n<h2>Curves</h2>\n<div class="figures">\n{drawn}\n</div>\n</section>' if drawn else "",
        *map(_section, scores),
        "<footer>" + "<br>\n".join(map(escape, footer)) + "</footer>",
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{_variables()}{STYLE}</style>\n</head>\n<body>",
            *filter(None, body),
            "</body>\n</html>\n",
        ]
    )


def inline(svg: str, name: str, title: str) -> str:
    """Return an SVG file of matplotlib as an element of the page, scalable and in the colours of the page.

    Args:
        svg: the content of the file.
        name: goes before every id in the figure, so that it differs from the ids of other figures.
        title: what screen readers say.
    """
    # the background of the figure and of the axes is that of the page
    colors = {"#ffffff": "none", **{color: f"var(--{variable})" for color, variable in _color_names().items()}}

    def adapt(tag: re.Match) -> str:
        renamed = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag[0])
        return re.sub(r"(?<=(?:fill|roke): )#[0-9a-f]{6}", lambda color: colors.get(color[0], color[0]), renamed)

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    (box,) = re.findall(r'viewBox="[^"]*"', head)
    # only tags are changed: the text between them may be the name of a run
    rest = re.sub(r"<[^>]+>", adapt, rest)
    return f'<svg {box} role="img" aria-label="{escape(title)}">{rest.strip()}'


def _color_names() -> dict[str, str]:
    return {INK: "ink", GRID: "grid", **{color: f"c{index}" for index, color in enumerate(COLORS)}}


def _variables() -> str:
    light = {**{name: color for color, name in _color_names().items()}, "paper": "#ffffff", "alarm": "#b3261e"}
    series = {f"c{index}": color for index, color in enumerate(DARK_COLORS)}
    dark = {"ink": DARK_INK, "grid": DARK_GRID, **series, "paper": DARK_PAPER, "alarm": "#ff8a80"}
    light_rules, dark_rules = (
        ";".join(f"--{name}:{color}" for name, color in colors.items()) for colors in (light, dark)
    )
    return (
        f":root{{color-scheme:light dark;{light_rules}}}\n@media (prefers-color-scheme:dark){{:root{{{dark_rules}}}}}"
    )


def _section(table: Table) -> str:
    """Return a table in a box that scrolls, with its title and its notes."""
    rows, rule = [], ""
    for cells in table.rows:
        if cells == RULE:
            rule = ' class="rule"'
            continue
        rows.append(f"<tr{rule}>{_cells('td', cells, table.left)}</tr>")
        rule = ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return "\n".join(
        [
            f"<section>\n<h2>{escape(table.title)}</h2>",
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>',
            f"<thead><tr>{_cells('th', table.header, table.left)}</tr></thead>",
            "<tbody>",
            *rows,
            "</tbody></table></div>",
            f"<ul>{notes}</ul>\n</section>" if notes else "</section>",
        ]
    )


def _cells(tag: str, cells: Sequence[str], left: int) -> str:
    elements = []
    for index, cell in enumerate(cells):
        classes = ["text"] if index < left else []
        # the second column is the state of a run, the first is its name
        if index == 1 and cell.startswith(f"{DIVERGED} at "):
            classes.append(DIVERGED)
        attribute = f' class="{" ".join(classes)}"' if classes else ""
        elements.append(f"<{tag}{attribute}>{escape(cell)}</{tag}>")
    return "".join(elements)

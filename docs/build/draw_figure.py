"""Draw the README's figure, docs/figure.svg: the residual schemes and the sharing strategies.

python -m docs.build.draw_figure           write the figure
python -m docs.build.draw_figure --check   exit with 1 if the file is not what would be drawn
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from b2t_common.files import write_whole
from docs.build.figure import schemes, stacks
from docs.build.figure.shapes import WIDTH, arrow_heads
from docs.build.figure.style import style_sheet

FIGURE = Path(__file__).resolve().parent.parent / "figure.svg"
HEIGHT = 1096


def draw() -> str:
    """Return the whole figure as SVG."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">',
        '<title id="title">Residual schemes and layer sharing strategies</title>',
        f'<desc id="description">{description()}</desc>',
        style_sheet(),
        arrow_heads(),
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="16"/>',
        *schemes.headings(),
        *stacks.headings(),
        *schemes.draw_schemes(),
        *stacks.draw_stacks(),
    ]
    return "\n".join([*parts, "</svg>", ""])


def description() -> str:
    """Return the figure in words, for screen readers."""
    equations = "; ".join(f"{scheme.name}: {', '.join(scheme.equations)}" for scheme in schemes.SCHEMES)
    sets = "; ".join(f"{name}: {' '.join(map(str, indices))}" for name, indices in stacks.parameter_sets().items())
    return (
        f"Residual schemes of an encoder layer with input x. {equations}. B2T is Post-LN with one more residual"
        " connection, from the layer's input to the sum before the last layer normalization."
        f" Parameter sets of {stacks.NUM_LAYERS} layers, first layer first, by sharing strategy. {sets}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figure, or compare it with the file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the figure is out of date")
    check = parser.parse_args(arguments).check
    figure = draw()
    if not check:
        write_whole({FIGURE: figure.encode()})
    elif not FIGURE.is_file() or FIGURE.read_text(encoding="utf-8") != figure:
        print(f"{FIGURE} is out of date: run python -m docs.build.draw_figure", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

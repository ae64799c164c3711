"""The lower diagram: one stack of layers for each sharing strategy."""

from __future__ import annotations

from collections.abc import Sequence

from b2t_fairseq.sharing import OF_THE_PAPER, layer_indices
from docs.build.figure.shapes import MARGIN, arrow_up, columns, group, panel, text

NUM_LAYERS, NUM_UNIQUE_LAYERS = 6, 3

TOP, HEIGHT = 760, 312  # of the panels
LAYER_WIDTH, LAYER_HEIGHT, LAYER_STEP = 112, 32, 37
LABELS_WIDTH = 40  # the labels are left of a stack, which therefore stands half of this right of the middle
SET_COLOURS = ("#56b4e9", "#e69f00", "#009e73")  # from Okabe and Ito's palette for colour-blind readers


def parameter_sets() -> dict[str, list[int]]:
    """Return the parameter set of each layer, first layer first, by sharing strategy."""
    return {name: layer_indices(name, NUM_LAYERS, NUM_UNIQUE_LAYERS) for name in OF_THE_PAPER}


def draw_stacks() -> list[str]:
    """Return a group for each sharing strategy, side by side."""
    groups = []
    for left, width, (strategy, indices) in columns(tuple(parameter_sets().items())):
        background = panel(left, TOP, width, HEIGHT, "panel")
        groups.append(group(f"sharing-{strategy}", background, _stack(strategy, indices, left + width // 2)))
    return groups


def headings() -> list[str]:
    """Return the diagram's heading and the note under it."""
    sets = f"N = {NUM_LAYERS} layers, M = {NUM_UNIQUE_LAYERS} parameter sets"
    return [
        text(MARGIN, TOP - 48, "Layer sharing: one stack of layers", "heading"),
        text(MARGIN, TOP - 18, f"{sets}; same colour and number: same parameters", "note"),
    ]


def _stack(strategy: str, indices: Sequence[int], x: int) -> str:
    """Return a stack with its first layer at the bottom; each layer has its parameter set's number and colour."""
    x += LABELS_WIDTH // 2
    bottom = TOP + HEIGHT
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

"""Runs against the value of a setting, such as the learning rate: ``b2t report --against lr``."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from b2t_common.errors import InputError
from b2t_common.names import flag

from .. import style
from ..runs import settings
from ..runs.run import Run
from ..scoring.layout import of_both_stacks
from ..tables import Table
from .figures import Plot
from .summary import unit
from .tuning import WINDOW, Tuned, tune

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

WIDTH, HEIGHT = 4.6, 3.1
MOST_LEVEL_LABELS = 6
"""So many values can be written side by side below the figure."""
FIGURE = Plot("against", "Last validation loss (\N{MULTIPLICATION SIGN}: failed)", "", "loss", validation=True)
"""Stands for the figure among those of a report."""
IN_MODEL = (
    "residual",
    "layer_sharing",
    "encoder_layers",
    "decoder_layers",
    "encoder_unique_layers",
    "decoder_unique_layers",
)
"""Settings that the name of a model already shows."""


@dataclass
class Line:
    """The runs of one model: their settings are equal but for one, the seed, and those that do not change a model.

    Attributes:
        name: the model, and the settings in which it differs from the other lines.
        losses: the last validation losses of the runs with each value of the setting, infinite for a run that failed.
        initial: the loss of a model that knows nothing, log2 of the number of words, infinite if that is not known.
    """

    name: str
    losses: dict[float, list[float]] = field(default_factory=dict)
    initial: float = math.inf

    @property
    def tuned(self) -> Tuned | None:
        """The model at its best value, ``None`` if at every value a run failed."""
        return tune(self.losses, self.initial)


@dataclass(frozen=True)
class Comparison:
    """Runs against the value of a setting.

    Attributes:
        name: the setting, spelled as in fairseq's settings: ``lr``.
        models: a line for each model.
        left_out: a sentence for each run that is not in a line, because it has not ended.
        unit: the unit of the losses.
    """

    name: str
    models: list[Line]
    left_out: list[str]
    unit: str

    def table(self) -> Table:
        """Return a row for each model: its best value, the loss there, and how much the value matters."""
        return _table(self)

    def draw(self) -> dict[str, bytes]:
        """Return the figure in each format: loss against the setting, one line for each model."""
        return _draw(self)


def compare(runs: Sequence[Run], text: str) -> Comparison:
    """Return runs against the value of a setting.

    Args:
        runs: the runs.
        text: the setting, or its flag: ``clip_norm`` or ``--clip-norm``.

    Raises:
        InputError: a log does not have the setting, or not as one number; the runs have different losses; or none of
            them has ended.
    """
    name = text.lstrip("-").replace("-", "_")
    models: dict[Hashable, list[tuple[float, Run]]] = {}
    left_out = []
    for run in runs:
        value = _value(run, name)
        if run.divergence is None and run.state() != "finished":
            left_out.append(f"{run.name}: {run.state()}, so it is left out")
            continue
        identity = {key: value for key, value in settings.of_model(run.settings).items() if key != name}
        models.setdefault(tuple(sorted((key, repr(value)) for key, value in identity.items())), []).append((value, run))
    if not models:
        raise InputError(f"--against {name}: none of the runs has ended, so there is nothing to compare")
    names = _names([members[0][1] for members in models.values()], name)
    lines = [_line(text, members) for text, members in zip(names, models.values(), strict=True)]
    return Comparison(name, lines, left_out, _unit(runs))


def _table(comparison: Comparison) -> Table:
    name, models = comparison.name, comparison.models
    header = ["model", "runs", "failed", f"best {name}", "loss there", f"within {WINDOW:g} bit", "sensitivity"]
    notes = [*comparison.left_out, *(note for model in models for note in _warnings(model, name))]
    notes.append(f"loss: the last one in validation, {comparison.unit}; the mean if there are several seeds")
    notes.append(
        "sensitivity: how many bits a value of this grid is on average above the best one (Wortsman et al. 2023, arXiv "
        "2309.14322); a run that failed, or is worse than a uniform distribution over the words, counts as that one"
    )
    return Table(f"Validation loss against {name}", header, [_row(model) for model in models], notes)


def _draw(comparison: Comparison) -> dict[str, bytes]:
    from matplotlib.figure import Figure

    with style.applied():
        figure = Figure(figsize=(WIDTH, HEIGHT + 0.19 * len(comparison.models)), layout="constrained")
        axes = figure.add_subplot()
        handles = plot(axes, {style.shortened(model.name): model.losses for model in comparison.models})
        style.title(axes, FIGURE.title)
        axes.set_xlabel(comparison.name)
        axes.set_ylabel(f"loss, {comparison.unit.split(',')[0]}")
        style.legend(figure, list(handles.values()), list(handles))
        return style.files(figure)


def plot(
    axes: Axes, models: Mapping[str, Mapping[float, Sequence[float]]], looks: Sequence[int] | None = None
) -> dict[str, Line2D]:
    """Draw a line through the mean losses of each model, a point for each run, and runs that failed at the upper edge.

    Args:
        axes: where to draw.
        models: for each model by name the losses of the runs with each value, infinite for a run that failed.
        looks: the number of each model's colour and dashes (default: 0, 1, ...).

    Returns:
        The lines for a legend, by model.
    """
    values = sorted({value for losses in models.values() for value in losses})
    handles = {}
    for index, (name, losses) in zip(looks or range(len(models)), models.items(), strict=True):
        look = style.line(index)
        whole = {value: losses[value] for value in sorted(losses) if all(map(math.isfinite, losses[value]))}
        means = [sum(runs) / len(runs) for runs in whole.values()]
        (handles[name],) = axes.plot(list(whole), means, marker="o", markersize=4, **look)
        runs = [(value, loss) for value, seeds in losses.items() for loss in seeds if math.isfinite(loss)]
        axes.plot([value for value, _ in runs], [loss for _, loss in runs], "o", color=look["color"], markersize=2.5)
        failed = [value for value, seeds in losses.items() if not all(map(math.isfinite, seeds))]
        # below each other, so that models that failed at the same value do not hide each other
        height = [0.985 - 0.035 * index] * len(failed)
        axes.plot(failed, height, "x", color=look["color"], transform=axes.get_xaxis_transform(), markeredgewidth=2)
    if values[0] > 0:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(values, [f"{value:g}" for value in values], rotation=45 if len(values) > MOST_LEVEL_LABELS else 0)
    axes.margins(y=0.15)
    return handles


def _line(name: str, members: Sequence[tuple[float, Run]]) -> Line:
    line = Line(name)
    for value, run in members:
        loss = run.log.validation().last("loss")
        line.losses.setdefault(value, []).append(math.inf if run.divergence or math.isnan(loss) else loss)
        if run.log.vocabulary:
            line.initial = math.log2(run.log.vocabulary)
    line.losses = {value: line.losses[value] for value in sorted(line.losses)}
    return line


def _value(run: Run, name: str) -> float:
    value = settings.lookup(run.settings, name)
    if value is None:
        raise InputError(f"--against {name}: {run.path} has no setting of that name; give one of fairseq's, such as lr")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"--against {name}: it is {value!r} in {run.path}, and only single numbers can be compared")
    return float(value)


def _names(firsts: Sequence[Run], name: str) -> list[str]:
    """Return the names of lines, given one run of each: the model, and the other settings that are not all equal."""
    relevant = [settings.of_model(run.settings) for run in firsts]
    keys = [key for key in dict.fromkeys(key for one in relevant for key in one) if key != name]
    different = [key for key in keys if len({repr(one.get(key)) for one in relevant}) > 1]
    return [_name(run, one, different) for run, one in zip(firsts, relevant, strict=True)]


def _name(run: Run, relevant: Mapping[str, Any], different: Sequence[str]) -> str:
    model = run.model
    parts = []
    if model.scheme:
        parts = [model.scheme, f"N={of_both_stacks(model.layers)}"]
        if model.layers != model.unique_layers:
            parts += [model.sharing, f"M={of_both_stacks(model.unique_layers)}"]
    shown = [key for key in different if not (parts and key in IN_MODEL)]
    parts += [f"{flag(key)} {relevant.get(key)}" for key in shown]
    return ", ".join(parts) or str(relevant.get("model") or "all runs")


def _row(model: Line) -> list[str]:
    losses = [loss for seeds in model.losses.values() for loss in seeds]
    failed = sum(not math.isfinite(loss) for loss in losses)
    tuned = model.tuned
    if tuned is None:
        return [model.name, str(len(losses)), str(failed), "-", "-", "-", "-"]
    low, high = tuned.window
    window = f"{low:g} to {high:g}" if low < high else f"{low:g}"
    sensitivity = f"{tuned.sensitivity:.3f}" if math.isfinite(tuned.sensitivity) else "-"
    return [model.name, str(len(losses)), str(failed), f"{tuned.best:g}", f"{tuned.loss:.3f}", window, sensitivity]


def _warnings(model: Line, name: str) -> list[str]:
    tuned = model.tuned
    if tuned is None:
        return [f"{model.name}: a run failed at every {name}"]
    if len(tuned.losses) == 1:
        return [f"warning: {model.name} has runs with one {name} only, {tuned.best:g}"]
    if not tuned.at_edge:
        return []
    direction = "lower" if tuned.at_edge == "lowest" else "higher"
    return [
        f"warning: the best {name} of {model.name}, {tuned.best:g}, is the {tuned.at_edge} one that was tried, so a "
        f"{direction} one may be better; extend the grid"
    ]


def _unit(runs: Sequence[Run]) -> str:
    units = list(dict.fromkeys(unit(run.log) for run in runs))
    if len(units) > 1:
        raise InputError(f"--against: the losses of these runs cannot be compared: {'; '.join(units)}")
    return units[0]

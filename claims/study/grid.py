"""The grid of the study: which models are trained at which rates, with which seeds, for how many updates.

    python -m claims.study.grid                      what the whole study is, and what of it is done
    python -m claims.study.grid --next --only rates  what claims/study/run.sh has to run now, most important first

The grid was written before the first run, but for the part "warmup", see README.md.  A part that depends on results,
such as more seeds at the best rate, is known once those results are there; until then it is counted, but not listed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from claims.evidence import RESULTS
from claims.study import records
from claims.study.records import Record

MIX, WORDS = "mix", "words"
"""The two tasks: translation of mixed text, and the word problem."""

RATES = ("5e-4", "1e-3", "2e-3", "4e-3", "8e-3")
"""Peak learning rates of every curve; a curve whose best rate is the first or the last gets one more, half or twice as
large."""
SHARING_RATES = RATES[:4]
WARMUP_RATES = RATES[1:]
WORD_RATES = ("1e-3", "4e-3")
FROM_THE_MIDDLE = ("2e-3", "1e-3", "4e-3", "5e-4", "8e-3")
"""The order in which rates are run: a study that is stopped early has the middle of every curve."""
SEEDS = (1, 2, 3)
WORD_SEEDS = (1, 2)
UPDATES, MORE_UPDATES, WORD_UPDATES = 2000, 8000, 3000
SAME_FLOPS = 3700
"""Updates of a model with 6-6 layers that take as many FLOPs as ``UPDATES`` of one with 12-12 layers."""
WARMUP, SLOW_WARMUP = 0.1, 0.5
"""The share of the updates in which the learning rate rises, and that of the part "warmup"."""


@dataclass(frozen=True)
class Model:
    """A model of the study.

    Attributes:
        name: in names of runs.
        label: in tables.
        scheme: ``--residual``.
        layers: N, of each stack.
        sets: M, if layers share parameters.
        warmup: the share of the updates in which its learning rate rises.
    """

    name: str
    label: str
    scheme: str
    layers: int
    sets: int = 0
    warmup: float = WARMUP

    @property
    def flags(self) -> list[str]:
        """The flags of the training that make this model."""
        flags = ["--residual", self.scheme]
        for stack in ("encoder", "decoder"):
            flags += [f"--{stack}-layers", str(self.layers)]
            flags += [f"--{stack}-unique-layers", str(self.sets)] if self.sets else []
        return [*flags, "--layer-sharing", "cycle_rev"] if self.sets else flags


@dataclass(frozen=True)
class Cell:
    """A run of the study: a model of a task at a rate with a seed."""

    part: str
    task: str
    model: Model
    rate: str
    seed: int
    updates: int = UPDATES

    @property
    def name(self) -> str:
        """The name of the run and of its folder."""
        return f"{self.task}-{self.model.name}-{self.updates}-lr{self.rate}-seed{self.seed}"

    @property
    def cost(self) -> int:
        """Layers times updates, to which the time of a run is about proportional."""
        return self.model.layers * self.updates

    @property
    def flags(self) -> list[str]:
        """The flags of its training that are not those of all runs of the task."""
        warmup = str(round(self.model.warmup * self.updates))
        schedule = ["--warmup-updates", warmup, "--total-num-update", str(self.updates)]
        return [*self.model.flags, "--lr", self.rate, *schedule, "--seed", str(self.seed)]


SCHEMES = {
    "pre_ln": "Pre-LN",
    "b2t": "B2T",
    "post_ln": "Post-LN",
    "admin": "Admin",
    "deepnorm": "DeepNorm",
    "resi_dual": "ResiDual",
    "span_norm": "SpanNorm",
}
THREE = ("pre_ln", "b2t", "post_ln")


def _model(scheme: str, layers: int, sets: int = 0) -> Model:
    label = f"{SCHEMES[scheme]}, {layers}-{layers}"
    if sets:
        return Model(f"{scheme}_{layers}_from_{sets}", f"{label} from {sets} sets", scheme, layers, sets)
    return Model(f"{scheme}_{layers}", label, scheme, layers)


def _slow(model: Model) -> Model:
    label = f"{model.label}, warm-up {SLOW_WARMUP * UPDATES:,.0f}"
    return replace(model, name=f"{model.name}_slow", label=label, warmup=SLOW_WARMUP)


DEEP = tuple(_model(scheme, 18) for scheme in SCHEMES)
SHALLOW = tuple(_model(scheme, 6) for scheme in THREE)
CURVES = (*DEEP[:2], *SHALLOW, *DEEP[2:])
"""The models of part "rates", those first that decide most."""
SLOW = {model: _slow(model) for model in DEEP[:3]}
"""Models whose learning rate rises more slowly, by the model that they are compared with."""
LONGER = (*DEEP[:2], *SHALLOW)
SHARED = tuple(_model(scheme, 12, 6) for scheme in ("b2t", "admin"))
UNSHARED = (SHALLOW[1], SHALLOW[2], _model("admin", 6))
"""What shared layers are compared with: as many parameters, half as many layers."""
WORD_MODELS = tuple(_model(scheme, layers, sets) for scheme in THREE for layers, sets in ((6, 0), (18, 0), (18, 6)))
MODELS = {model.name: model for model in (*CURVES, *SLOW.values(), *SHARED, *UNSHARED, *WORD_MODELS)}
PARTS = {
    "rates": "learning-rate curves of 18-18 and 6-6 models",
    "warmup": "the same of 18-18 models whose learning rate rises for half of the updates",
    "seeds": "two more seeds at the best rate of each of these models",
    "longer": "8,000 updates at the best rate",
    "sharing": "12-12 layers from 6 sets against 6-6 layers, at equal updates and at equal FLOPs",
    "depth": "the word problem over the permutations of five things",
}


def rates_of(model: Model) -> tuple[str, ...]:
    """Return the rates of a model's curve."""
    if model in SLOW.values():
        return WARMUP_RATES
    return RATES if model in CURVES else SHARING_RATES


def curve(part: str, model: Model, rates: Sequence[str], done: Sequence[Record]) -> list[Cell]:
    """Return the first seed of a model at each rate, and at one more where the best rate of all is at the edge."""
    tuned = records.tuned(done, model.name, UPDATES)
    known = {*map(float, rates)}
    longer = [*rates]
    # only when the curve is complete can its best rate be at its edge
    if tuned and known <= tuned.losses.keys() and tuned.at_edge:
        extra = tuned.best * (2 if tuned.at_edge == "highest" else 0.5)
        longer.append(f"{extra:g}".replace("e-0", "e-"))
    return [Cell(part, MIX, model, rate, SEEDS[0]) for rate in longer]


def best_rate(model: Model, rates: Sequence[str], done: Sequence[Record]) -> str | None:
    """Return the best rate of a model when its curve is complete and the best rate is inside it, else ``None``."""
    tuned = records.tuned(done, model.name, UPDATES)
    if tuned is None or tuned.at_edge or not {*map(float, rates)} <= tuned.losses.keys():
        return None
    return records.spelled(done, model.name, tuned.best)


def cells(part: str, done: Sequence[Record]) -> Iterator[Cell]:
    """Yield the runs of a part that are known from the runs that are done, in the order in which they are run."""
    if part == "rates":
        runs = {cell for model in CURVES for cell in curve(part, model, RATES, done)}
        order = {model: index for index, model in enumerate(CURVES)}
        main = {*DEEP[:3], *SHALLOW}

        def rank(cell: Cell) -> tuple[bool, int, int]:
            position = FROM_THE_MIDDLE.index(cell.rate) if cell.rate in FROM_THE_MIDDLE else len(FROM_THE_MIDDLE)
            return cell.model not in main, position, order[cell.model]

        yield from sorted(runs, key=rank)
    elif part == "warmup":
        for rate in sorted(WARMUP_RATES, key=FROM_THE_MIDDLE.index):
            yield from (Cell(part, MIX, model, rate, SEEDS[0]) for model in SLOW.values())
    elif part == "seeds":
        for seed in SEEDS[1:]:
            for model in CURVES:
                if rate := best_rate(model, RATES, done):
                    yield Cell(part, MIX, model, rate, seed)
    elif part == "longer":
        for model in LONGER:
            if rate := best_rate(model, RATES, done):
                yield Cell(part, MIX, model, rate, SEEDS[0], MORE_UPDATES)
    elif part == "sharing":
        yield from _sharing(part, done)
    else:
        for seed in WORD_SEEDS:
            for rate in WORD_RATES:
                yield from (Cell(part, WORDS, model, rate, seed, WORD_UPDATES) for model in WORD_MODELS)


def _sharing(part: str, done: Sequence[Record]) -> Iterator[Cell]:
    for model in (*SHARED, UNSHARED[-1]):
        yield from curve(part, model, SHARING_RATES, done)
    for model in (*SHARED, *UNSHARED):
        rate = best_rate(model, SHARING_RATES, done)
        if rate is None:
            continue
        yield from (Cell(part, MIX, model, rate, seed) for seed in SEEDS[1:])
        if model in UNSHARED:
            yield from (Cell(part, MIX, model, rate, seed, SAME_FLOPS) for seed in SEEDS)


def planned_costs() -> dict[str, int]:
    """Return the cost of each part as far as it does not depend on results; see :attr:`Cell.cost`."""
    seeds = len(SEEDS) - 1
    return {
        "rates": sum(model.layers for model in CURVES) * len(RATES) * UPDATES,
        "warmup": sum(model.layers for model in SLOW) * len(WARMUP_RATES) * UPDATES,
        "seeds": sum(model.layers for model in CURVES) * seeds * UPDATES,
        "longer": sum(model.layers for model in LONGER) * MORE_UPDATES,
        "sharing": sum(model.layers for model in (*SHARED, UNSHARED[-1])) * (len(SHARING_RATES) + seeds) * UPDATES
        + sum(model.layers for model in UNSHARED) * len(SEEDS) * SAME_FLOPS,
        "depth": sum(model.layers for model in WORD_MODELS) * len(WORD_RATES) * len(WORD_SEEDS) * WORD_UPDATES,
    }


def select_parts(only: str) -> list[str]:
    """Return the parts that ``--only`` names, with commas between them; empty selects all parts.

    Raises:
        ValueError: there is no part of such a name.
    """
    names = only.split(",") if only else list(PARTS)
    for name in names:
        if name not in PARTS:
            raise ValueError(f"--only {name}: there is no such part; give some of {', '.join(PARTS)}")
    return names


def status(done: Sequence[Record], parts: Sequence[str]) -> str:
    """Return a line for each part, and how long the rest takes on one core, if there is a run that says it."""
    by_name = {one["run"]: one for one in done}
    planned, lines, left = planned_costs(), [], 0
    for part in parts:
        known = list(dict.fromkeys(cells(part, done)))
        finished = [cell for cell in known if cell.name in by_name]
        left += max(planned[part] - sum(cell.cost for cell in finished), 0)
        lines.append(f"{part:8} {len(finished):3} of {len(known):3} runs known so far: {PARTS[part]}")
    timed = [(one["minutes"], one["layers"]["encoder"] * one["done"]) for one in done if one["done"]]
    if timed:
        hours = left * sum(minutes for minutes, _ in timed) / sum(cost for _, cost in timed) / 60
        lines.append(f"at the pace of the runs so far, about {hours:.1f} hours of training are left, divided by --jobs")
    else:
        lines.append("the time left is known when a run is done")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PART[,PART]", help="default: all parts")
    parser.add_argument("--next", action="store_true", help="print the runs to do now, for claims/study/run.sh")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the records are")
    args = parser.parse_args()
    try:
        parts = select_parts(args.only)
    except ValueError as error:
        parser.error(str(error))
    done = records.read(args.results)
    if not args.next:
        print(status(done, parts))
        return
    # it loads fairseq, which takes some seconds
    from b2t_fairseq.residual import SCHEMES as AVAILABLE

    finished = {one["run"] for one in done}
    names = {}
    for cell in (cell for part in parts for cell in cells(part, done)):
        if cell.name not in finished and cell.model.scheme in AVAILABLE:
            names.setdefault(cell.name, cell)
    for name, cell in names.items():
        print("\t".join([name, cell.task, cell.model.name, cell.rate, str(cell.seed), str(cell.updates), *cell.flags]))


if __name__ == "__main__":
    main()

"""The measured numbers that decide the claims, as ``claims/results`` holds them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2t_common.files import write_whole
from claims.configurations import TITLES

RESULTS = Path(__file__).resolve().parent / "results"
FILES = ("runs", "bootstraps", "gradients", "schemes")
SEEDS = 3
"""Fewer seeds decide nothing."""


@dataclass(frozen=True)
class Evidence:
    """All measured numbers.

    Attributes:
        runs: one record for each trained model, see :func:`claims.gather.record`.
        bootstraps: sacreBLEU's paired bootstrap of two configurations with one seed, see
            :func:`claims.gather.bootstrap`.
        gradients: for each seed what ``b2t analyze`` says of the three schemes' models, new and trained.
        schemes: what ``b2t analyze`` says of a new model of every scheme.
        speed: what ``benchmarks.sharing_speed`` measured, ``None`` if it was not run.
    """

    runs: list[dict[str, Any]]
    bootstraps: list[dict[str, Any]]
    gradients: list[dict[str, Any]]
    schemes: list[dict[str, Any]]
    speed: dict[str, Any] | None

    def of(self, config: str) -> list[dict[str, Any]]:
        """Return the runs of a configuration, sorted by seed."""
        return sorted((run for run in self.runs if run["config"] == config), key=lambda run: run["seed"])

    def losses(self, config: str) -> list[float]:
        """Return the last validation losses of a configuration's runs; a loss that was not finite is infinite here."""
        return [math.inf if run["valid_loss"] is None else run["valid_loss"] for run in self.of(config)]

    def bootstrap(self, config: str, baseline: str) -> list[dict[str, Any]]:
        """Return the paired bootstraps of two configurations, sorted by seed."""
        tests = [test for test in self.bootstraps if (test["config"], test["baseline"]) == (config, baseline)]
        return sorted(tests, key=lambda test: test["seed"])

    def models(self, trained: bool) -> dict[str, list[dict[str, Any]]]:
        """Return the analyzed models of each scheme, either the trained ones or the new ones, sorted by seed."""
        models: dict[str, list[dict[str, Any]]] = {scheme: [] for scheme in TITLES}
        for model in sorted(self.gradients, key=lambda model: model["seed"]):
            if bool(model["updates"]) == trained and model["residual"] in models:
                models[model["residual"]].append(model)
        return {scheme: seeds for scheme, seeds in models.items() if seeds}


def read(folder: Path = RESULTS) -> Evidence:
    """Return what a folder of results holds; what was not measured yet is empty."""
    speed = folder / "speed.json"
    return Evidence(
        *(read_records(folder / f"{name}.json") for name in FILES),
        json.loads(speed.read_text(encoding="utf-8")) if speed.is_file() else None,
    )


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, none if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write records to a file, one line for each, so that a diff shows which ones are new."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
    write_whole({path: f"[\n{lines}\n]\n".encode()})


def top_third(model: dict[str, Any], key: str) -> float | None:
    """Return the mean of a value over the top third of the decoder's layers, ``None`` if one is not finite."""
    layers = model["stacks"]["decoder"]["layers"]
    values = [layer[key] for layer in layers[-len(layers) // 3 :]]
    return None if None in values else statistics.mean(values)


def mean_and_range(values: Sequence[float | None], form: str = ".3f") -> str:
    """Return the mean of some values, and in brackets the lowest and the highest one; ``-`` without any.

    Args:
        values: the values.  ``None`` stands for one that was not finite; it is left out.
        form: how a number is written.
    """
    finite = [value for value in values if value is not None]
    if not finite:
        return "-"
    mean = f"{statistics.mean(finite):{form}}"
    return mean if len(finite) == 1 else f"{mean} ({min(finite):{form}} to {max(finite):{form}})"

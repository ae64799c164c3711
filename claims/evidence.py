"""What the claims are judged by: measured numbers, as ``claims/results`` holds them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claims.configurations import TITLES

RESULTS = Path(__file__).resolve().parent.parent / "results/claims"
FILES = ("runs", "bootstraps", "gradients", "schemes")
SEEDS = 3
"""Fewer decide nothing."""


@dataclass(frozen=True)
class Evidence:
    """All numbers.

    Attributes:
        runs: one record for each trained model, see :func:`claims.gather.record`.
        bootstraps: for pairs of configurations and seeds sacreBLEU's paired bootstrap, see
            :func:`claims.gather.bootstrap`.
        gradients: what ``b2t analyze`` says of the three schemes' models, fresh and trained, for each seed.
        schemes: what ``b2t analyze`` says of a fresh model of every scheme.
        speed: what ``benchmarks/sharing_speed.py`` measured, ``None`` if it was not run.
    """

    runs: list[dict[str, Any]]
    bootstraps: list[dict[str, Any]]
    gradients: list[dict[str, Any]]
    schemes: list[dict[str, Any]]
    speed: dict[str, Any] | None

    def of(self, config: str) -> list[dict[str, Any]]:
        """Return the runs of a configuration, by seed."""
        return sorted((run for run in self.runs if run["config"] == config), key=lambda run: run["seed"])

    def losses(self, config: str) -> list[float]:
        """Return the last validation losses of a configuration's runs, infinite where they were not finite."""
        return [math.inf if run["valid_loss"] is None else run["valid_loss"] for run in self.of(config)]

    def bootstrap(self, config: str, baseline: str) -> list[dict[str, Any]]:
        """Return the paired bootstraps of two configurations, by seed."""
        found = [one for one in self.bootstraps if (one["config"], one["baseline"]) == (config, baseline)]
        return sorted(found, key=lambda one: one["seed"])

    def models(self, trained: bool) -> dict[str, list[dict[str, Any]]]:
        """Return the analyzed models of each scheme, fresh ones or those that have been trained, by seed."""
        found = sorted(
            (model for model in self.gradients if bool(model["updates"]) == trained), key=lambda model: model["seed"]
        )
        by_scheme = {scheme: [model for model in found if model["residual"] == scheme] for scheme in TITLES}
        return {scheme: models for scheme, models in by_scheme.items() if models}


def read(folder: Path = RESULTS) -> Evidence:
    """Return what has been measured so far, as a folder holds it."""
    return Evidence(*(_read(folder / f"{name}.json", []) for name in FILES), _read(folder / "speed.json"))


def _read(path: Path, otherwise: Any = None) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise


def top_third(model: dict[str, Any], key: str) -> float | None:
    """Return the mean of a value over the highest third of the decoder's layers, ``None`` if one is not finite."""
    layers = model["stacks"]["decoder"]["layers"]
    values = [layer[key] for layer in layers[-len(layers) // 3 :]]
    return None if None in values else statistics.mean(values)


def mean_and_range(values: Sequence[float | None], form: str = ".3f") -> str:
    """Return the mean, and the lowest and the highest value; ``None``, what was not finite, is left out."""
    finite = [value for value in values if value is not None]
    if not finite:
        return "-"
    mean = f"{statistics.mean(finite):{form}}"
    return mean if len(finite) == 1 else f"{mean} ({min(finite):{form}} to {max(finite):{form}})"

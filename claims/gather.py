#!/usr/bin/env python3
"""Read the runs of claims/run.sh, and write their numbers to claims/results, or to --results.

    python claims/gather.py runs/claims

What is there of other runs stays, unless they had other settings: a claim can be run alone, and on another machine.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from sacrebleu.metrics import BLEU  # noqa: E402
from sacrebleu.significance import PairedTest  # noqa: E402

from b2t_cli.runs import run as reporting  # noqa: E402
from b2t_common.files import (
    read_lines,
    write_whole,
)
from claims.configurations import LABELS  # noqa: E402
from claims.evidence import RESULTS  # noqa: E402
from claims.registry import CLAIMS  # noqa: E402

SAMPLES = 1000
FINISHED = "score.txt"
"""What a run has when it is trained, translated and scored."""


def record(folder: Path) -> dict[str, Any]:
    """Return what is to be known of one run.

    Args:
        folder: ``CONFIG/seedN``, with the training log, the translations and ``provenance.json``.
    """
    (run,) = reporting.read_all([folder])
    validation = run.log.validation()
    curve = [
        [int(update), round(loss, 4) if math.isfinite(loss) else None]
        for update, loss in zip(validation["update"], validation["loss"], strict=True)
    ]
    return {
        "config": folder.parent.name,
        "seed": _seed(folder),
        "settings": _digest(folder / "configuration.txt"),
        "common_settings": _digest(folder.parents[1] / "settings.txt"),
        "residual": run.model.scheme,
        "layer_sharing": run.model.sharing,
        "layers": run.model.layers,
        "unique_layers": run.model.unique_layers,
        "parameters": run.model.parameters,
        "updates": run.updates(),
        "valid_loss": curve[-1][1],
        "valid_curve": curve,
        "diverged": run.divergence and run.divergence._asdict(),
        "bleu": round(BLEU().corpus_score(read_lines(folder / "hypotheses.de"), [_references(folder)]).score, 2),
        "minutes": round(run.training_seconds() / 60, 1),
        **json.loads((folder / "provenance.json").read_text(encoding="utf-8")),
    }


def bootstrap(out: Path, config: str, baseline: str, seed: int) -> dict[str, Any]:
    """Return sacreBLEU's paired bootstrap of two runs of one seed: the difference in BLEU, and how likely by chance."""
    folders = [out / name / f"seed{seed}" for name in (baseline, config)]
    lines = [read_lines(folder / "hypotheses.de") for folder in folders]
    systems = [(name, translations) for name, translations in zip(("baseline", "config"), lines, strict=True)]
    test = PairedTest(systems, {"BLEU": BLEU()}, [_references(folders[0])], test_type="bs", n_samples=SAMPLES)
    first, second = test()[1]["BLEU"]
    return {
        "config": config,
        "baseline": baseline,
        "seed": seed,
        "settings": [_digest(folder / "configuration.txt") for folder in reversed(folders)],
        "difference": round(float(second.score - first.score), 3),
        # identical translations get 1 / (samples + 1), as if they differed
        "p_value": None if lines[0] == lines[1] else round(float(second.p_value), 4),
    }


def analyzed(out: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the models of the driver's analyses of these kinds, each with its seed, to five digits.

    A trained one has the settings of its run.
    """
    found = []
    for path in sorted((out / "analysis").glob("*/analysis.json")):
        kind, _, seed = path.parent.name.rpartition("-seed")
        if kind in kinds:
            analysis = json.loads(path.read_text(encoding="utf-8"))
            for model in analysis["models"]:
                run = out / f"{model['residual']}_18l" / f"seed{seed}"
                settings = {"settings": _digest(run / "configuration.txt")} if model["updates"] else {}
                # where the checkpoint lay is nobody's business
                found.append(_rounded({**model, "checkpoint": None, "seed": int(seed), **settings}))
    return found


def merge(
    path: Path,
    found: Iterable[dict[str, Any]],
    keys: tuple[str, ...],
    stays: Callable[[dict[str, Any]], bool] = lambda known: True,
) -> list[dict[str, Any]]:
    """Add records to a file, in place of those with the same keys, and return all.

    Args:
        path: the file.
        found: the new records.
        keys: what tells records apart.
        stays: says of a record whether it still belongs there.
    """
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    merged = {tuple(one[key] for key in keys): one for one in [*known, *found]}
    kept = [merged[key] for key in sorted(merged) if stays(merged[key])]
    if len(kept) < len(merged):
        print(f"{path.name}: {len(merged) - len(kept)} records of other settings are left out")
    # one line for each, so that a difference shows what is new
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, allow_nan=False) for one in kept)
    write_whole({path: f"[\n{lines}\n]\n".encode()})
    return kept


def gather(out: Path, results: Path) -> None:
    """Write what a driver's folder has to a folder of results."""
    finished = [path.parent for path in sorted(out.glob(f"*/seed*/{FINISHED}")) if path.parts[-3] in LABELS]
    new = [record(folder) for folder in finished]
    common = {run["common_settings"] for run in new}
    settings = {run["config"]: run["settings"] for run in new}

    def comparable(run: dict[str, Any]) -> bool:
        same = run["settings"] == settings.get(run["config"], run["settings"])
        return not new or (same and run["common_settings"] in common)

    runs = merge(results / "runs.json", new, ("config", "seed"), comparable)
    made_with = {(run["config"], run["seed"]): run["settings"] for run in runs}
    have = {(folder.parent.name, _seed(folder)) for folder in finished}
    pairs = dict.fromkeys(pair for claim in CLAIMS for pair in claim.pairs)
    compared = [
        bootstrap(out, config, baseline, seed)
        for config, baseline in pairs
        for seed in sorted({seed for name, seed in have if name == config})
        if (baseline, seed) in have
    ]
    merge(
        results / "bootstraps.json",
        compared,
        ("config", "baseline", "seed"),
        lambda one: one["settings"] == [made_with.get((one[name], one["seed"])) for name in ("config", "baseline")],
    )
    merge(
        results / "gradients.json",
        analyzed(out, "fresh", "trained"),
        ("residual", "updates", "seed"),
        lambda model: (
            not model["updates"] or model["settings"] == made_with.get((f"{model['residual']}_18l", model["seed"]))
        ),
    )
    merge(results / "schemes.json", analyzed(out, "all"), ("residual", "seed"))
    print(f"{len(finished)} runs, {len(compared)} comparisons: {results}")


def _seed(folder: Path) -> int:
    return int(folder.name.removeprefix("seed"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _references(folder: Path) -> list[str]:
    return read_lines(folder.parents[1] / "corpus/raw/test_2016_flickr.de")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the driver's --out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers go")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.INFO)
    # another driver may be about to add its own
    with open(args.results / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        gather(args.out, args.results)


if __name__ == "__main__":
    main()

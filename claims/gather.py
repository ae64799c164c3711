"""Read the finished runs of claims/run.sh and write their numbers to claims/results, or to --results.

    python -m claims.gather runs/claims

Numbers of other runs stay there, unless those runs had other settings.  So a claim can be run alone, or elsewhere.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from b2t_cli.runs.run import read_all
from b2t_common.files import read_lines
from claims.configurations import LABELS
from claims.evidence import RESULTS, read_records, write_records
from claims.registry import CLAIMS

SAMPLES = 1000

# what claims/run.sh calls the files of a run, CONFIG/seedN, ...
SCORE = "score.txt"
"""The last file of a run: it is trained, translated and scored."""
TRANSLATIONS = "hypotheses.de"
CONFIGURATION = "configuration.txt"
PROVENANCE = "provenance.json"
# ... and of all runs together
COMMON_SETTINGS = "settings.txt"
REFERENCE = "corpus/raw/test_2016_flickr.de"


def record(folder: Path) -> dict[str, Any]:
    """Return the record of one run.

    Args:
        folder: ``CONFIG/seedN``, with the training log, the translations and ``provenance.json``.
    """
    (run,) = read_all([folder])
    validation = run.log.validation()
    curve = [
        [int(update), round(loss, 4) if math.isfinite(loss) else None]
        for update, loss in zip(validation["update"], validation["loss"], strict=True)
    ]
    return {
        "config": folder.parent.name,
        "seed": _seed(folder),
        "settings": _digest(folder / CONFIGURATION),
        "common_settings": _digest(folder.parents[1] / COMMON_SETTINGS),
        "residual": run.model.scheme,
        "layer_sharing": run.model.sharing,
        "layers": run.model.layers,
        "unique_layers": run.model.unique_layers,
        "parameters": run.model.parameters,
        "updates": run.updates(),
        "valid_loss": curve[-1][1],
        "valid_curve": curve,
        "diverged": run.divergence and run.divergence._asdict(),
        "bleu": round(BLEU().corpus_score(read_lines(folder / TRANSLATIONS), [_references(folder)]).score, 2),
        "minutes": round(run.training_seconds() / 60, 1),
        **json.loads((folder / PROVENANCE).read_text(encoding="utf-8")),
    }


def bootstrap(out: Path, config: str, baseline: str, seed: int) -> dict[str, Any]:
    """Return sacreBLEU's paired bootstrap of two runs of one seed: the difference in BLEU and its p-value."""
    folders = [out / name / f"seed{seed}" for name in (baseline, config)]
    translations = [read_lines(folder / TRANSLATIONS) for folder in folders]
    systems = list(zip(("baseline", "config"), translations, strict=True))
    test = PairedTest(systems, {"BLEU": BLEU()}, [_references(folders[0])], test_type="bs", n_samples=SAMPLES)
    theirs, ours = test()[1]["BLEU"]
    return {
        "config": config,
        "baseline": baseline,
        "seed": seed,
        "settings": [_digest(folder / CONFIGURATION) for folder in reversed(folders)],
        "difference": round(float(ours.score - theirs.score), 3),
        # for identical translations sacreBLEU returns 1 / (samples + 1), as if they differed significantly
        "p_value": None if translations[0] == translations[1] else round(float(ours.p_value), 4),
    }


def read_analyses(out: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the models of the driver's analyses with their seeds, numbers rounded to five digits.

    Args:
        out: the driver's folder.
        kinds: the analyses to read: ``fresh`` and ``all`` are of new models, ``trained`` of trained ones, which also
            get the settings of their runs.
    """
    models = []
    for path in sorted((out / "analysis").glob("*/analysis.json")):
        kind, _, seed = path.parent.name.rpartition("-seed")
        if kind not in kinds:
            continue
        for model in json.loads(path.read_text(encoding="utf-8"))["models"]:
            run = out / f"{model['residual']}_18l" / f"seed{seed}"
            settings = {"settings": _digest(run / CONFIGURATION)} if model["updates"] else {}
            # the path of the checkpoint is private
            models.append(_rounded({**model, "checkpoint": None, "seed": int(seed), **settings}))
    return models


def merge(
    path: Path,
    new: Iterable[dict[str, Any]],
    keys: tuple[str, ...],
    is_current: Callable[[dict[str, Any]], bool] = lambda record: True,
) -> list[dict[str, Any]]:
    """Add records to a file, in place of those with the same keys, and return all records of the file.

    Args:
        path: the file.
        new: the records to add.
        keys: the fields that identify a record.
        is_current: says of a record whether its settings are the present ones; others are left out.
    """
    merged = {tuple(record[key] for key in keys): record for record in [*read_records(path), *new]}
    kept = [merged[key] for key in sorted(merged) if is_current(merged[key])]
    if len(kept) < len(merged):
        print(f"{path.name}: {len(merged) - len(kept)} records of other settings are left out")
    write_records(path, kept)
    return kept


def gather(out: Path, results: Path) -> None:
    """Write the numbers of a driver's folder to a folder of results."""
    finished = [path.parent for path in sorted(out.glob(f"*/seed*/{SCORE}")) if path.parts[-3] in LABELS]
    runs = _merge_runs(results / "runs.json", [record(folder) for folder in finished])
    settings = {(run["config"], run["seed"]): run["settings"] for run in runs}
    compared = _compare(out, {(folder.parent.name, _seed(folder)) for folder in finished})
    merge(
        results / "bootstraps.json",
        compared,
        ("config", "baseline", "seed"),
        lambda test: test["settings"] == [settings.get((test[name], test["seed"])) for name in ("config", "baseline")],
    )
    merge(
        results / "gradients.json",
        read_analyses(out, "fresh", "trained"),
        ("residual", "updates", "seed"),
        lambda model: (
            not model["updates"] or model["settings"] == settings.get((f"{model['residual']}_18l", model["seed"]))
        ),
    )
    merge(results / "schemes.json", read_analyses(out, "all"), ("residual", "seed"))
    print(f"{len(finished)} runs, {len(compared)} comparisons: {results}")


def _merge_runs(path: Path, new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add runs to a file; leave out those whose settings differ from the new runs', and return all runs of the file."""
    common = {run["common_settings"] for run in new}
    settings = {run["config"]: run["settings"] for run in new}

    def is_current(run: dict[str, Any]) -> bool:
        same = run["settings"] == settings.get(run["config"], run["settings"])
        return not new or (same and run["common_settings"] in common)

    return merge(path, new, ("config", "seed"), is_current)


def _compare(out: Path, finished: set[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return the bootstraps of all pairs of the claims, for each seed with which both configurations are finished."""
    return [
        bootstrap(out, config, baseline, seed)
        for config, baseline in dict.fromkeys(pair for claim in CLAIMS for pair in claim.pairs)
        for seed in sorted(seed for name, seed in finished if name == config)
        if (baseline, seed) in finished
    ]


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
    return read_lines(folder.parents[1] / REFERENCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="the --out of claims/run.sh")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers go")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.INFO)
    # two drivers may finish at the same time
    with open(args.results / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        gather(args.out, args.results)


if __name__ == "__main__":
    main()

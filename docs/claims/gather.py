#!/usr/bin/env python3
"""Read the runs of scripts/reproduce_claims.sh, and write their numbers to docs/results/claims, or to --results.

    python docs/claims/gather.py runs/claims

What is there of other runs stays: a claim can be run alone, and on another machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import numpy as np  # noqa: E402
from sacrebleu.metrics import BLEU  # noqa: E402
from sacrebleu.significance import PairedTest  # noqa: E402

from b2t_fairseq.reporting import runs as reporting  # noqa: E402
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
    curve = [[int(u), round(loss, 4)] for u, loss in zip(validation["update"], validation["loss"], strict=True)]
    train = run.log.training()
    # the clock begins anew with each start
    ends = np.append(np.flatnonzero(train["start"][1:] == 1), len(train) - 1)
    return {
        "config": folder.parent.name,
        "seed": int(folder.name.removeprefix("seed")),
        "residual": run.model.scheme,
        "layer_sharing": run.model.sharing,
        "layers": run.model.layers,
        "unique_layers": run.model.unique_layers,
        "parameters": run.model.parameters,
        "updates": run.updates(),
        "valid_loss": curve[-1][1],
        "valid_curve": curve,
        "diverged": run.divergence and run.divergence._asdict(),
        "bleu": round(BLEU().corpus_score(_lines(folder / "hypotheses.de"), [_references(folder)]).score, 2),
        "minutes": round(float(train["wall"][ends].sum()) / 60, 1),
        **json.loads((folder / "provenance.json").read_text(encoding="utf-8")),
    }


def bootstrap(out: Path, config: str, baseline: str, seed: int) -> dict[str, Any]:
    """Return sacreBLEU's paired bootstrap of two runs of one seed: the difference in BLEU, and how likely by chance."""
    folders = [out / name / f"seed{seed}" for name in (baseline, config)]
    lines = [_lines(folder / "hypotheses.de") for folder in folders]
    systems = [(name, translations) for name, translations in zip(("baseline", "config"), lines, strict=True)]
    test = PairedTest(systems, {"BLEU": BLEU()}, [_references(folders[0])], test_type="bs", n_samples=SAMPLES)
    first, second = test()[1]["BLEU"]
    return {
        "config": config,
        "baseline": baseline,
        "seed": seed,
        "difference": round(float(second.score - first.score), 3),
        # identical translations get 1 / (samples + 1), as if they differed
        "p_value": None if lines[0] == lines[1] else round(float(second.p_value), 4),
    }


def analyzed(out: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the models of the driver's analyses of these kinds, each with its seed, to five digits."""
    found = []
    for path in sorted((out / "analysis").glob("*/analysis.json")):
        kind, _, seed = path.parent.name.rpartition("-seed")
        if kind in kinds:
            analysis = json.loads(path.read_text(encoding="utf-8"))
            # where the checkpoint lay is nobody's business
            found += [_rounded({**model, "checkpoint": None, "seed": int(seed)}) for model in analysis["models"]]
    return found


def merge(path: Path, found: Iterable[dict[str, Any]], keys: tuple[str, ...]) -> None:
    """Add records to a file, in place of those with the same keys."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    merged = {tuple(one[key] for key in keys): one for one in [*known, *found]}
    records = [json.dumps(merged[key], ensure_ascii=False) for key in sorted(merged)]
    unfinished = path.with_name(f"{path.name}.tmp{os.getpid()}")
    # one line for each, so that a difference shows what is new
    unfinished.write_text("[\n" + ",\n".join(records) + "\n]\n", encoding="utf-8")
    unfinished.replace(path)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _references(folder: Path) -> list[str]:
    return _lines(folder.parents[1] / "corpus/raw/test_2016_flickr.de")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the driver's --out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers go")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.INFO)
    finished = [path.parent for path in sorted(args.out.glob(f"*/seed*/{FINISHED}")) if path.parts[-3] in LABELS]
    merge(args.results / "runs.json", map(record, finished), ("config", "seed"))
    have = {(folder.parent.name, int(folder.name.removeprefix("seed"))) for folder in finished}
    pairs = dict.fromkeys(pair for claim in CLAIMS for pair in claim.pairs)
    compared = [
        bootstrap(args.out, config, baseline, seed)
        for config, baseline in pairs
        for seed in sorted({seed for name, seed in have if name == config})
        if (baseline, seed) in have
    ]
    merge(args.results / "bootstraps.json", compared, ("config", "baseline", "seed"))
    merge(args.results / "gradients.json", analyzed(args.out, "fresh", "trained"), ("residual", "updates", "seed"))
    merge(args.results / "schemes.json", analyzed(args.out, "all"), ("residual", "seed"))
    print(f"{len(finished)} runs, {len(compared)} comparisons: {args.results}")


if __name__ == "__main__":
    main()

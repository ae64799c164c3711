#!/usr/bin/env python3
"""Print, as Markdown, what a run that scripts/train.sh and scripts/evaluate.sh made was trained on and what it scores.

python docs/build/summarize_run.py RUN [--note TEXT] > docs/results/NAME.md      on the machine that trained it
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import machine  # noqa: E402

from b2t_cli.runs import run as reporting  # noqa: E402


def summary(run: Path, note: str) -> str:
    """Return the table of scores and, below it, the text, the model and the time that it took."""
    scores = json.loads((run / "evaluation/scores.json").read_text(encoding="utf-8"))
    data = Path((run / "data.txt").read_text().strip()).parent
    corpora = json.loads((data / "clean/train.json").read_text())
    kept, pairs = (sum(counts[key] for counts in corpora.values()) for key in ("kept", "pairs"))
    (trained,) = reporting.read_all([run])
    names = list(scores["sets"])
    lines = [
        f"| | {' | '.join(name.removeprefix('newstest') for name in names)} | average |",
        f"| --- |{' --: |' * (len(names) + 1)}",
    ]
    for metric in scores["average"]:
        cells = [scores["sets"][name]["metrics"][metric]["score"] for name in names] + [scores["average"][metric]]
        lines.append(f"| {metric} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    signatures = {f"`{m}|{r['signature']}`" for s in scores["sets"].values() for m, r in s["metrics"].items()}
    text = (
        f"{kept:,} of {pairs:,} pairs, {scores['parameters']:,} parameters, {trained.updates():,} updates in "
        f"{trained.training_seconds() / 60:.0f} minutes on {machine.cores()}{note and f'; {note}'}. "
        f"{', '.join(sorted(signatures))}"
    )
    return "\n".join([*lines, "", text])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--note", default="", help="what else the machine was doing, say")
    args = parser.parse_args()
    print(summary(args.run, args.note))


if __name__ == "__main__":
    main()

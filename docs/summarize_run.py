#!/usr/bin/env python3
"""Print, as Markdown, what a run that scripts/train.sh and scripts/evaluate.sh made was trained on and what it scores.

python docs/summarize_run.py RUN [--note TEXT] > docs/results/NAME.md
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import machine


def summary(run: Path, note: str) -> str:
    """Return the table of scores and, below it, the text, the model and the time that it took."""
    scores = json.loads((run / "evaluation/scores.json").read_text(encoding="utf-8"))
    data = Path((run / "data.txt").read_text().strip()).parent
    corpora = json.loads((data / "clean/train.json").read_text())
    kept, pairs = (sum(counts[key] for counts in corpora.values()) for key in ("kept", "pairs"))
    log = (run / "train.log").read_text(encoding="utf-8")
    seconds = sum(map(float, re.findall(r"done training in ([\d.]+) seconds", log)))
    updates = re.findall(r"num_updates=(\d+)", log)[-1]
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
        f"{kept:,} of {pairs:,} pairs, {scores['parameters']:,} parameters, {int(updates):,} updates in "
        f"{seconds / 60:.0f} minutes on {machine.cores()}{note and f'; {note}'}. {', '.join(sorted(signatures))}"
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

#!/usr/bin/env python3
"""Time training with one step towards the fastest flags after the other, with fairseq's own trainer.

python benchmarks/training_steps.py --output benchmarks/results/training_steps
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

# the profiler would warn that it does not see when what was there before it is freed
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
import trainers
from decoding_speed import without_onednn
from measuring import in_turn, machine, median_and_quartiles, ratios
from synthetic_corpus import write_corpus
from training_runs import Run, make_updates, measure_memory, start, time_update
from write_result import finish, markdown

BASELINE = "fairseq transformer"
EXACT = "--kernels fairseq"
WITHOUT_ONEDNN = "--kernels fast, without oneDNN's products"
FAST = "--kernels fast"
CRITERION = f"{FAST} --criterion label_smoothed_cross_entropy_fused"
OPTIMIZER = f"{CRITERION} --optimizer adam_fused"

_STOCK_CRITERION = ["--criterion", "label_smoothed_cross_entropy"]
_STOCK_OPTIMIZER = ["--optimizer", "adam"]

STEPS = {
    BASELINE: ("transformer", [*_STOCK_CRITERION, *_STOCK_OPTIMIZER]),
    EXACT: ("b2t_transformer", [*EXACT.split(), *_STOCK_CRITERION, *_STOCK_OPTIMIZER]),
    WITHOUT_ONEDNN: ("b2t_transformer", [*FAST.split(), *_STOCK_CRITERION, *_STOCK_OPTIMIZER]),
    FAST: ("b2t_transformer", [*FAST.split(), *_STOCK_CRITERION, *_STOCK_OPTIMIZER]),
    CRITERION: ("b2t_transformer", [*CRITERION.split(), *_STOCK_OPTIMIZER]),
    OPTIMIZER: ("b2t_transformer", OPTIMIZER.split()),
}


def model(name: str, args: argparse.Namespace) -> list[str]:
    """Return the flags of a step."""
    arch, flags = STEPS[name]
    residual = [] if arch == "transformer" else ["--residual", "post_ln"]
    return [*trainers.model_flags(arch, args.layers, args.width, dropout=0.1), *residual, *flags]


def products_of(name: str) -> contextlib.AbstractContextManager:
    """Return the context in which a step is made."""
    return without_onednn() if name == WITHOUT_ONEDNN else contextlib.nullcontext()


def measure(data: str, args: argparse.Namespace) -> list[dict]:
    """Return one row for each step."""
    runs: list[Run] = []
    for name in STEPS:
        with products_of(name):
            runs.append(start(name, data, model(name, args), "cpu", args.max_tokens))
    updates = make_updates(runs, args.update_tokens, args.rounds + 1)
    for turn, update in enumerate(updates):
        for run in in_turn(runs, turn):
            with products_of(run.name):
                run.seconds.append(time_update(run, update, "cpu"))
    rows = []
    for run in runs:
        with products_of(run.name):
            measure_memory(run, updates[0], run.max_tokens, "cpu")
        # the first round warms up
        speed, quartiles = median_and_quartiles(ratios(runs[0].seconds[1:], run.seconds[1:]))
        memory = {"peak_bytes": run.peak_bytes, "memory_ratio": run.peak_bytes / runs[0].peak_bytes}
        rows.append({"variant": run.name, "speed_ratio": speed, "speed_ratio_quartiles": quartiles, **memory})
    return rows


def table(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        low, high = row["speed_ratio_quartiles"]
        memory = f"{row['peak_bytes'] / 1e9:.2f} GB, {row['memory_ratio']:.3f}"
        rows.append([row["variant"], f"{row['speed_ratio']:.2f}", f"{low:.2f} to {high:.2f}", memory])
    note = f"Medians over {result['rounds']} rounds, ratios within each round, to the first row. {result['setting']}."
    return markdown(["flags", "times as fast", "quartiles", "peak memory"], rows, 1, result, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6, help="layers of encoder and of decoder")
    parser.add_argument("--width", type=int, default=512, help="embedding dimension")
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--max-tokens", type=int, default=1024, help="in a batch")
    parser.add_argument("--update-tokens", type=int, default=1024, help="in an update")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder, trainers.quiet():
        write_corpus(Path(folder), 5000, args.vocabulary)
        rows = measure(folder, args)
    result = {
        "machine": machine("cpu"),
        "setting": f"{args.layers}-{args.layers} layers, width {args.width}, vocabulary {args.vocabulary}, updates of "
        f"{args.update_tokens} tokens, float32",
        "rounds": args.rounds,
        "rows": rows,
    }
    finish("training_steps.py", result, table, args.output)


if __name__ == "__main__":
    main()

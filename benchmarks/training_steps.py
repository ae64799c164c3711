"""Time training with fairseq's own trainer: one after the other the flags are added that make this plugin fast.

python -m benchmarks.training_steps --output benchmarks/results/training_steps
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

import torch

from benchmarks import trainers
from benchmarks.arguments import add_model_size, add_rounds, add_threads, benchmark_parser, model_size
from benchmarks.decoding_speed import without_onednn
from benchmarks.measuring import in_turn, machine, median_and_quartiles, ratios
from benchmarks.synthetic_corpus import write_corpus
from benchmarks.training_runs import Run, make_updates, measure_memory, start, time_update
from benchmarks.write_result import interval, medians, memory, print_and_write, table_with_note

SENTENCE_PAIRS = 5000
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


def step_flags(name: str, args: argparse.Namespace) -> list[str]:
    """Return all flags of a step."""
    arch, flags = STEPS[name]
    residual = [] if arch == "transformer" else ["--residual", "post_ln"]
    return [*trainers.model_flags(arch, args.layers, args.width, dropout=0.1), *residual, *flags]


def step_context(name: str) -> contextlib.AbstractContextManager:
    """Return the context in which a step trains."""
    return without_onednn() if name == WITHOUT_ONEDNN else contextlib.nullcontext()


def measure(data: str, args: argparse.Namespace) -> list[dict]:
    """Return one row for each step."""
    runs: list[Run] = []
    for name in STEPS:
        with step_context(name):
            runs.append(start(name, data, step_flags(name, args), "cpu", args.max_tokens))
    updates = make_updates(runs, args.update_tokens, args.rounds + 1)
    for turn, update in enumerate(updates):
        for run in in_turn(runs, turn):
            with step_context(run.name):
                run.seconds.append(time_update(run, update, "cpu"))
    rows = []
    for run in runs:
        with step_context(run.name):
            measure_memory(run, updates[0], run.max_tokens, "cpu")
        # the first round warms up
        speed, quartiles = median_and_quartiles(ratios(runs[0].seconds[1:], run.seconds[1:]))
        row = {"variant": run.name, "speed_ratio": speed, "speed_ratio_quartiles": quartiles}
        rows.append({**row, "peak_bytes": run.peak_bytes, "memory_ratio": run.peak_bytes / runs[0].peak_bytes})
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = [
        [row["variant"], f"{row['speed_ratio']:.2f}", interval(row["speed_ratio_quartiles"]), memory(row)]
        for row in result["rows"]
    ]
    note = f"{medians(result, 'the first row')} {result['setting']}."
    return table_with_note(["flags", "times as fast", "quartiles", "peak memory"], rows, "lrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_model_size(parser)
    parser.add_argument("--max-tokens", type=int, default=1024, help="in a batch")
    parser.add_argument("--update-tokens", type=int, default=1024, help="in an update")
    add_rounds(parser, 7)
    add_threads(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder, trainers.quiet():
        write_corpus(Path(folder), SENTENCE_PAIRS, args.vocabulary)
        rows = measure(folder, args)
    result = {
        "machine": machine("cpu"),
        "setting": f"{model_size(args)}, updates of {args.update_tokens} tokens, float32",
        "rounds": args.rounds,
        "rows": rows,
    }
    print_and_write("training_steps", result, markdown, args.output)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Time training with fairseq's own trainer: this plugin's models with its fastest flags against fairseq's transformer.

Updates are those of fairseq-train: its trainer, task, batches, criterion, clipping, optimizer and schedule, on random
sentences with the lengths of WMT's.  All models of a size live in one process and take turns, on the same sentences in
each round, so that a machine that slows down slows all of them down, and what counts is the ratio within each round.

    python benchmarks/training_speed.py --output benchmarks/results/training_speed
    python benchmarks/training_speed.py --sizes 6l --layers 1 --width 64 --vocabulary 1000 --rounds 1    to try it
"""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

# the profiler would warn that it does not see when what was there before it is freed
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
import trainers
from measuring import in_turn, machine
from peak_flops import peak_flops
from synthetic_corpus import LONGEST, MEAN_LENGTH, write_corpus
from training_runs import make_updates, measure_memory, search_max_tokens, start, time_update
from training_sizes import SIZES, models
from training_speed_table import rows, table
from write_result import finish

# of a corpus many times larger than what is trained on the batches hold sentences of similar length
CORPUS_FACTOR = 3
LEAST_PAIRS = 20_000

DEFAULTS = {
    "cpu": {"update_tokens": 2048, "rounds": 7, "warmup": 1, "max_tokens": 1024},
    "cuda": {"update_tokens": 458752, "rounds": 9, "warmup": 2},
}


def measure_size(name: str, data: str, peak: float | None, args: argparse.Namespace) -> list[dict]:
    """Return one row for each model of a size."""
    chosen = models(SIZES[name], args.layers, args.width, args.device)
    runs = [start(model, data, flags, args.device, args.max_tokens) for model, flags in chosen.items()]
    if not args.max_tokens:
        for run in runs:
            search_max_tokens(run, args.update_tokens)
    updates = make_updates(runs, args.update_tokens, args.warmup + args.rounds)
    for turn, update in enumerate(updates):
        for run in in_turn(runs, turn):
            run.seconds.append(time_update(run, update, args.device))
    for run in runs:
        del run.seconds[: args.warmup]
        measure_memory(run, updates[0], min(run.max_tokens for run in runs), args.device)
    return rows(name, runs, updates[args.warmup :], peak)


def measure(peak: float | None, args: argparse.Namespace) -> list[dict]:
    """Return the rows of all sizes; one size's models are in memory at a time."""
    tokens = CORPUS_FACTOR * args.update_tokens * (args.warmup + args.rounds)
    found = []
    with tempfile.TemporaryDirectory() as folder, trainers.quiet():
        write_corpus(Path(folder), max(LEAST_PAIRS, tokens // MEAN_LENGTH), args.vocabulary)
        for name in args.sizes:
            print(name, file=sys.stderr)
            found += measure_size(name, folder, peak, args)
            gc.collect()
            if args.device == "cuda":
                torch.cuda.empty_cache()
                # what was compiled for one size counts against the number of times that a function is compiled
                torch.compiler.reset()
    return found


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEFAULTS, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--layers", type=int, help="layers of encoder and of decoder (default: each size's own)")
    parser.add_argument("--width", type=int, default=512, help="embedding dimension; twice that in size universal")
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--max-tokens", type=int, help="in a batch (default: 1024, on a GPU the most that fit)")
    parser.add_argument("--update-tokens", type=int, help="in an update (default: 2048, on a GPU the papers' 458752)")
    parser.add_argument(
        "--peak-tflops", type=float, help="of the device (default: known of some GPUs, measured on CPUs)"
    )
    parser.add_argument("--rounds", type=int, help="(default: 7, on a GPU 9)")
    parser.add_argument("--warmup", type=int, help="rounds that do not count (default: 1, on a GPU 2)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    for name, default in DEFAULTS[args.device].items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.max_tokens and args.max_tokens <= LONGEST:
        parser.error(f"--max-tokens {args.max_tokens}: the longest sentence has {LONGEST + 1}")
    return args


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    peak, source = peak_flops(args.device)
    if args.peak_tflops:
        peak, source = args.peak_tflops * 1e12, "as given"
    result = {
        "machine": machine(args.device),
        "setting": f"Width {args.width}, twice that in size universal; vocabulary {args.vocabulary}; updates of "
        f"{args.update_tokens} tokens, padding included",
        "fairseqs_flags": shlex.join(trainers.fairseqs_flags(args.device)),
        "our_flags": shlex.join(trainers.our_flags(args.device)),
        "peak_flops": peak,
        "peak_flops_source": source,
        "rounds": args.rounds,
        "rows": measure(peak, args),
    }
    finish("training_speed.py", result, table, args.output)


if __name__ == "__main__":
    main()

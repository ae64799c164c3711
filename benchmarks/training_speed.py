"""Time training with fairseq's own trainer: this plugin's models with its fastest flags against fairseq's Transformer.

    python -m benchmarks.training_speed --output benchmarks/results/training_speed
    python -m benchmarks.training_speed --sizes 6l --layers 1 --width 64 --vocabulary 1000 --rounds 1    to try it

Updates are those of fairseq-train: its trainer, task, batches, criterion, clipping, optimizer and schedule, on random
sentences with the lengths of WMT's.  All models of a size are in the memory of one process.  In each round they take
turns on the same sentences, so that a machine that becomes slow slows all of them, and each ratio is taken within one
round.
"""

from __future__ import annotations

import argparse
import gc
import shlex
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import trainers
from benchmarks.arguments import add_threads, benchmark_parser, default_device
from benchmarks.measuring import in_turn, machine
from benchmarks.peak_flops import peak_flops
from benchmarks.synthetic_corpus import LONGEST, MEAN_LENGTH, write_corpus
from benchmarks.training_runs import make_updates, measure_memory, search_max_tokens, start, time_update
from benchmarks.training_sizes import SIZES, models
from benchmarks.training_speed_table import markdown, rows
from benchmarks.write_result import print_and_write

# A batch holds sentences of similar length if the corpus is several times as large as what is trained on.
CORPUS_FACTOR = 3
LEAST_PAIRS = 20_000

DEFAULTS = {
    "cpu": {"update_tokens": 2048, "rounds": 7, "warmup": 1, "max_tokens": 1024},
    "cuda": {"update_tokens": 458752, "rounds": 9, "warmup": 2},
}


def measure_size(name: str, data: str, peak: float | None, args: argparse.Namespace) -> list[dict]:
    """Return one row for each model of a size."""
    compared = models(SIZES[name], args.layers, args.width, args.device)
    runs = [start(model, data, flags, args.device, args.max_tokens) for model, flags in compared.items()]
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
    """Return the rows of all sizes, whose models are in memory one size after the other."""
    tokens = CORPUS_FACTOR * args.update_tokens * (args.warmup + args.rounds)
    table = []
    with tempfile.TemporaryDirectory() as folder, trainers.quiet():
        write_corpus(Path(folder), max(LEAST_PAIRS, tokens // MEAN_LENGTH), args.vocabulary)
        for name in args.sizes:
            print(name, file=sys.stderr)
            table += measure_size(name, folder, peak, args)
            gc.collect()
            if args.device == "cuda":
                torch.cuda.empty_cache()
                # PyTorch limits how often it compiles a function; every size starts with a count of zero
                torch.compiler.reset()
    return table


def parse_args() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    add = parser.add_argument
    add("--device", choices=DEFAULTS, default=default_device())
    add("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    add("--layers", type=int, help="layers of the encoder, and of the decoder (default: each size's own)")
    add("--width", type=int, default=512, help="embedding dimension; twice that in size universal")
    add("--vocabulary", type=int, default=32768, help="symbols in the joined dictionary")
    add("--max-tokens", type=int, help="in a batch (default: 1024; on a GPU as many as its memory holds)")
    add("--update-tokens", type=int, help="in an update (default: 2048; on a GPU the papers' 458752)")
    add("--peak-tflops", type=float, help="of the device (default: known for some GPUs, measured on CPUs)")
    add("--rounds", type=int, help="how often everything is timed (default: 7; on a GPU 9)")
    add("--warmup", type=int, help="rounds before them that do not count (default: 1; on a GPU 2)")
    add_threads(parser)
    args = parser.parse_args()
    for name, default in DEFAULTS[args.device].items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.max_tokens and args.max_tokens <= LONGEST:
        parser.error(f"--max-tokens {args.max_tokens}: the longest sentence has {LONGEST + 1}; give at least as many")
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
    print_and_write("training_speed", result, markdown, args.output)


if __name__ == "__main__":
    main()

"""Time an update on one core step by step, and show how fast it could be if it were nothing but matrix products.

    python -m benchmarks.training_ceiling --output benchmarks/results/training_ceiling_avx512

The products of an update must be computed, and no program computes them faster than the processor's peak.  So an update
takes at least their FLOPs by the peak, and fairseq's time by that is the largest ratio that anything could reach.  It
is counted with padding, as fairseq computes the products, and without.  All times are processor time.  The peak is
measured again in each round, since a shared machine is not equally fast all the time.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from b2t_fairseq.kernels import packing
from benchmarks import trainers
from benchmarks.arguments import add_model_size, add_rounds, benchmark_parser, model_size
from benchmarks.decoding_speed import without_onednn
from benchmarks.measuring import in_turn, machine, median_and_quartiles, processor_seconds, ratios
from benchmarks.peak_flops import measured_peaks
from benchmarks.synthetic_corpus import write_corpus
from benchmarks.training_runs import Run, make_updates, start
from benchmarks.training_sizes import B2T, BASELINE
from benchmarks.training_speed_table import padded_update_flops, update_flops
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

SENTENCE_PAIRS = 20_000
PADDED = f"{B2T}, with padding in the products"
PADDED_PYTORCH = f"{PADDED}, by PyTorch's libraries"
BFLOAT16 = f"{B2T} --bf16"
CEILING, CEILING_UNPADDED = "nothing but products, padding included", "nothing but products, without padding"


@contextlib.contextmanager
def with_padding() -> Iterator[None]:
    """Compute the products of padding too."""
    before = packing._LEAST_PADDING
    packing._LEAST_PADDING = 2.0
    try:
        yield
    finally:
        packing._LEAST_PADDING = before


def measure(data: str, args: argparse.Namespace) -> tuple[list[dict], dict[str, float]]:
    """Return the rows of the table, and the medians of the peaks of both libraries."""
    multiple = ["--required-batch-size-multiple", "1"]
    theirs = [*multiple, *trainers.model_flags("transformer", args.layers, args.width, dropout=0.1)]
    ours = [*multiple, *trainers.model_flags("b2t_transformer", args.layers, args.width, dropout=0.1)]
    theirs += trainers.fairseqs_flags("cpu")
    ours += [*B2T.split(), *trainers.our_flags("cpu")]
    baseline, run = (start("", data, flags, "cpu", args.max_tokens) for flags in (theirs, ours))

    def train(run: Run, update: trainers.Update) -> float:
        return processor_seconds(lambda: trainers.train_step(run.trainer, update))

    def train_padded(run: Run, update: trainers.Update) -> float:
        with with_padding():
            return train(run, update)

    def train_by_pytorch(run: Run, update: trainers.Update) -> float:
        with without_onednn():
            return train_padded(run, update)

    steps = {BASELINE: (train, baseline), PADDED_PYTORCH: (train_by_pytorch, run), PADDED: (train_padded, run)}
    steps[B2T] = (train, run)
    if args.bf16:
        steps[BFLOAT16] = (train, start("", data, [*ours, "--bf16"], "cpu", args.max_tokens))
    seconds: dict[str, list[float]] = {name: [] for name in (*steps, CEILING, CEILING_UNPADDED)}
    peaks: dict[str, list[float]] = {}
    for turn, update in enumerate(make_updates([run], args.max_tokens, args.rounds + 1)):
        for name in in_turn(list(steps), turn):
            step, of = steps[name]
            seconds[name].append(step(of, update))
        peak = measured_peaks(time.process_time)
        for library, flops in peak.items():
            peaks.setdefault(library, []).append(flops)
        seconds[CEILING].append(padded_update_flops(run.trainer, update) / max(peak.values()))
        seconds[CEILING_UNPADDED].append(update_flops(run.trainer, update) / max(peak.values()))
    rows = []
    for name, times in seconds.items():
        # The first round warms up.
        speed, quartiles = median_and_quartiles(ratios(seconds[BASELINE][1:], times[1:]))
        rows.append({"variant": name, "seconds": statistics.median(times[1:]), "speed_ratio": speed})
        rows[-1]["speed_ratio_quartiles"] = quartiles
    return rows, {library: statistics.median(flops) for library, flops in peaks.items()}


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = [
        [row["variant"], f"{row['seconds']:.2f} s", f"{row['speed_ratio']:.2f}", interval(row["speed_ratio_quartiles"])]
        for row in result["rows"]
    ]
    peaks = ", ".join(f"{flops / 1e9:.0f} by {library}" for library, flops in result["peaks"].items())
    note = (
        f"Processor time. {medians(result, BASELINE)} {result['setting']}; source and target without padding are "
        f"{result['share_of_tokens']:.1%} of what the products of fairseq compute. The two rows of products are their "
        f"FLOPs by the peak of the round; the peaks are {peaks} in 1e9 FLOPs a second (medians; 10 float32 products of "
        "2048 x 2048 matrices each, of which the fastest counts)."
    )
    return table_with_note(["update", "time", "times as fast", "quartiles"], rows, "lrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_model_size(parser)
    parser.add_argument("--max-tokens", type=int, default=1024, help="in a batch, which is an update")
    parser.add_argument("--bf16", action="store_true", help="train with --bf16 too")
    add_rounds(parser, 9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, trainers.quiet():
        write_corpus(Path(folder), SENTENCE_PAIRS, args.vocabulary)
        rows, peaks = measure(folder, args)
    products = {row["variant"]: row["seconds"] for row in rows}
    result = {
        "machine": machine("cpu"),
        "setting": f"{model_size(args)}, updates of {args.max_tokens} tokens, float32",
        "share_of_tokens": products[CEILING_UNPADDED] / products[CEILING],
        "peaks": peaks,
        "rounds": args.rounds,
        "rows": rows,
    }
    print_and_write("training_ceiling", result, markdown, args.output)


if __name__ == "__main__":
    main()

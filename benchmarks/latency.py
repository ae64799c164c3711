"""Time single sentences as a user waits for them: each sentence, the first one, and the start of the program.

    python -m benchmarks.latency --output benchmarks/results/latency

fairseq and this plugin, in float32, with 8-bit weights, and in bfloat16 on a processor with instructions for it,
translate the same sentences one after the other.  The model has the papers' base size and random weights, so a
translation is as long as its source.  Each program runs in a process of its own; the programs take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.arguments import (
    add_model_size,
    add_processor_time,
    add_rounds,
    add_threads,
    benchmark_parser,
    model_size,
)
from benchmarks.kept_memory import FAIRSEQ, OURS, ROOT, prepare, search_of
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

INT8 = "b2t --int8"
BF16 = "b2t --bf16"
PROGRAMS = (FAIRSEQ, OURS, INT8, BF16)


def clock(args: argparse.Namespace) -> Callable[[], float]:
    """Return what tells the time; both clocks go on between a process and the one that it starts."""
    return time.process_time if args.processor_time else time.time


def child(program: str, folder: Path, started: float, args: argparse.Namespace) -> None:
    """Translate in this process; print the seconds of the start and of each sentence.

    Args:
        program: one of ``PROGRAMS``.
        folder: the data and the models.
        started: when this process was started.
        args: the arguments of this benchmark.
    """
    if program != FAIRSEQ:
        from b2t_cli import fairseq_commands  # noqa: F401  (what b2t sets before PyTorch is imported)
    import b2t_fairseq  # noqa: F401  (before fairseq)

    # isort: split
    import torch

    now = clock(args)
    torch.set_num_threads(args.threads)
    search, task = search_of(folder, program, args.beam, int8=program == INT8, bf16=program == BF16)
    seconds = [now() - (0 if args.processor_time else started)]
    task.load_dataset("test")
    data = task.dataset("test")
    for number in range(len(data)):
        before = now()
        search(data.collater([data[number]]))
        seconds.append(now() - before)
    print(json.dumps(seconds))


def run(program: str, folder: Path, args: argparse.Namespace) -> list[float]:
    """Return what :func:`child` prints, from a new process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.latency", *sys.argv[1:]]
    command += ["--child", program, str(folder), str(time.time())]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def summary(found: dict[str, list[list[float]]]) -> list[dict]:
    """Return one row for each program, from the seconds of each of its runs."""
    import numpy

    from benchmarks.measuring import median_and_quartiles, ratios

    sentences = {name: numpy.array([seconds[2:] for seconds in runs]) for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        # each sentence is compared with itself, in the same round
        speed, quartiles = median_and_quartiles(
            ratios(sentences[FAIRSEQ].ravel().tolist(), sentences[name].ravel().tolist())
        )
        median, high = numpy.percentile(sentences[name], [50, 95]).tolist()
        start, first = (median_and_quartiles([seconds[place] for seconds in runs])[0] for place in (0, 1))
        times = {"median": median, "percentile_95": high, "first": first, "start": start}
        rows.append({"program": name, **times, "speed_ratio": speed, "speed_ratio_quartiles": quartiles})
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        times = [f"{row[name] * 1e3:.0f} ms" for name in ("median", "percentile_95", "first")]
        speed = [f"{row['speed_ratio']:.2f}", interval(row["speed_ratio_quartiles"])]
        rows.append([row["program"], *times, f"{row['start']:.1f} s", *speed])
    counted = "Processor time. " if result["processor_time"] else ""
    note = (
        f"{counted}{medians(result)} Times of a sentence without the first one; ratios to fairseq's time for the same "
        f"sentence. {result['setting']}."
    )
    header = ["program", "median", "95th percentile", "first sentence", "start", "times as fast", "quartiles"]
    return table_with_note(header, rows, "lrrrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_model_size(parser)
    parser.add_argument("--sentences", type=int, default=40)
    parser.add_argument("--beam", type=int, default=4)
    add_rounds(parser, 3)
    add_threads(parser)
    add_processor_time(parser)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        program, folder, started = args.child
        child(program, Path(folder), float(started), args)
        return
    from b2t_fairseq.kernels import bfloat16
    from benchmarks.measuring import machine, rounds_in_turn

    programs = [name for name in PROGRAMS if name != BF16 or bfloat16.is_fast()]
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args)
        found = rounds_in_turn(
            {name: lambda name=name: run(name, Path(folder), args) for name in programs}, args.rounds
        )
    setting = f"{args.sentences} sentences, {model_size(args)}, beam {args.beam}, threads: {args.threads}"
    settings = {"processor_time": args.processor_time, "setting": setting, "rounds": args.rounds}
    result = {"machine": machine("cpu"), **settings, "rows": summary(found)}
    print_and_write("latency", result, markdown, args.output)


if __name__ == "__main__":
    main()

"""Measure what OpenMP's waiting threads cost beside other work: training with and without the default of ``b2t train``.

python -m benchmarks.busy_machine --output benchmarks/results/busy_machine

A small model, of the quickstart's size, trains in a process of its own with one thread for each core.  In each round
every setting is measured alone and beside one process that computes all the time.  With T threads on C cores a busy
process leaves, if all get equal shares, C / (T + 1) of a core to each thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from b2t_common.threads import SPINS
from benchmarks.arguments import add_rounds, benchmark_parser
from benchmarks.write_result import interval, print_and_write, table_with_note

ROOT = Path(__file__).resolve().parent.parent
ALONE, BUSY = "alone", "beside a busy process"
SETTINGS: dict[str, dict[str, str]] = {
    "PyTorch's default": {},
    f"GOMP_SPINCOUNT={SPINS}, the default of b2t train": {"GOMP_SPINCOUNT": SPINS},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
SENTENCES, LENGTH, VOCABULARY = 24, 20, 2000


def train_for(seconds: float, threads: int) -> float:
    """Train a small model for some seconds and return target tokens per second."""
    import torch

    import b2t_fairseq  # noqa: F401  (before fairseq)
    from b2t_fairseq.building import build_without_data

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    flags = {"encoder_layers": 4, "decoder_layers": 4, "encoder_embed_dim": 128, "encoder_ffn_embed_dim": 256}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    model = build_without_data({**flags, **heads, "share_all_embeddings": True}, VOCABULARY)
    optimizer = torch.optim.Adam(model.parameters())
    source, previous, target = torch.randint(4, VOCABULARY, (3, SENTENCES, LENGTH))

    def update() -> None:
        optimizer.zero_grad()
        logits, _ = model(source, None, previous)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
        optimizer.step()

    for _ in range(3):
        update()
    updates, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        update()
        updates += 1
    return updates * target.numel() / (time.perf_counter() - start)


def measure(setting: dict[str, str], is_busy: bool, args: argparse.Namespace) -> float:
    """Return target tokens per second of a training in a process of its own."""
    chosen = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in chosen} | setting
    command = [sys.executable, "-m", "benchmarks.busy_machine", "--train-for", str(args.seconds)]
    command += ["--threads", str(args.threads)]
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if is_busy else None
    try:
        result = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()
    return json.loads(result.stdout.splitlines()[-1])


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        cells = [row["setting"]]
        for place in (ALONE, BUSY):
            cells += [
                f"{row[place]['tokens_per_second']:,.0f}",
                f"{row[place]['ratio']:.2f} ({interval(row[place]['quartiles'])})",
            ]
        rows.append(cells)
    cores, threads = result["cores"], result["threads"]
    note = (
        f"Target tokens per second, medians over {result['rounds']} rounds of {result['seconds']} seconds; in each "
        f"round their ratio to PyTorch's default alone, with quartiles. {threads} threads on {cores} cores; beside a "
        f"busy process equal shares would be {min(1.0, cores / (threads + 1)):.2f}."
    )
    header = ["setting", ALONE, "ratio", BUSY, "ratio"]
    return table_with_note(header, rows, "lrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_rounds(parser, 5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of training in each measurement")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of PyTorch on the CPU")
    parser.add_argument("--train-for", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train_for is not None:
        print(json.dumps(train_for(args.train_for, args.threads)))
        return
    from benchmarks.measuring import machine, median_and_quartiles, ratios, rounds_in_turn

    measurements = {
        f"{name}|{place}": lambda setting=setting, place=place: measure(setting, place == BUSY, args)
        for name, setting in SETTINGS.items()
        for place in (ALONE, BUSY)
    }
    speeds = rounds_in_turn(measurements, args.rounds)
    baseline = speeds[f"{next(iter(SETTINGS))}|{ALONE}"]
    rows = []
    for name in SETTINGS:
        row: dict = {"setting": name}
        for place in (ALONE, BUSY):
            median, _ = median_and_quartiles(speeds[f"{name}|{place}"])
            ratio, quartiles = median_and_quartiles(ratios(speeds[f"{name}|{place}"], baseline))
            row[place] = {"tokens_per_second": median, "ratio": ratio, "quartiles": quartiles}
        rows.append(row)
    settings = {"threads": args.threads, "cores": len(os.sched_getaffinity(0)), "seconds": args.seconds}
    result = {"machine": machine("cpu"), "rounds": args.rounds, **settings, "rows": rows}
    print_and_write("busy_machine", result, markdown, args.output)


if __name__ == "__main__":
    main()

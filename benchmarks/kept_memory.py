"""Measure what it gives to keep freed memory, the default of b2t train and b2t generate, and how much memory it costs.

    python -m benchmarks.kept_memory --output benchmarks/results/kept_memory

fairseq and this plugin train and translate with models of the papers' base size, each in a process of its own, with
and without the setting.  One thread computes.  What is counted is its processor time, which other work on the machine
changes little, and the largest memory of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from b2t_common import memory
from benchmarks.arguments import add_model_size, add_rounds, benchmark_parser, model_size
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

ROOT = Path(__file__).resolve().parent.parent
FAIRSEQ, OURS = "fairseq", "b2t"
TRAINING, TRANSLATION = "training", "translation"
WITHOUT, WITH = "returned to the system", "kept"


def train(folder: Path, program: str, args: argparse.Namespace) -> float:
    """Return the processor seconds of an update, the first two left out."""
    from benchmarks import trainers

    arch, flags = {
        FAIRSEQ: ("transformer", trainers.fairseqs_flags("cpu")),
        OURS: ("b2t_transformer", trainers.our_flags("cpu")),
    }[program]
    flags = [*trainers.model_flags(arch, args.layers, args.width, dropout=0.1), *flags]
    with trainers.quiet():
        trainer = trainers.build_trainer(str(folder), flags, "cpu")
        updates = trainers.updates(trainer, args.max_tokens, 1)
        for _ in range(2):
            trainers.train_step(trainer, next(updates))
        start = time.process_time()
        for _ in range(args.updates):
            trainers.train_step(trainer, next(updates))
    return (time.process_time() - start) / args.updates


def translate(folder: Path, program: str, args: argparse.Namespace) -> float:
    """Return the processor seconds of the search for a sentence."""
    from benchmarks import translating

    flags = ["--cpu", "--beam", "4", "--max-tokens", "4096", "--max-len-a", "1", "--max-len-b", "0"]
    with translating.counting_processor_time(True):
        seconds, found = translating.search(folder, folder / f"{program}.pt", folder, flags)
    return seconds / len(found)


def child(task: str, program: str, folder: Path, args: argparse.Namespace) -> None:
    """Train or translate in this process; print the seconds and the largest memory in bytes."""
    import torch

    torch.set_num_threads(1)
    seconds = {TRAINING: train, TRANSLATION: translate}[task](folder, program, args)
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def run(task: str, program: str, is_kept: bool, folder: Path, args: argparse.Namespace) -> tuple[float, int]:
    """Return seconds and bytes of a process."""
    command = [sys.executable, "-m", "benchmarks.kept_memory", *sys.argv[1:]]
    command += ["--child", task, program, "1" if is_kept else "0", str(folder)]
    result = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = json.loads(result.stdout.splitlines()[-1])
    return seconds, peak


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """Write data, and for each program a model of the same random weights."""
    from b2t_cli.conversion.stock import to_stock
    from b2t_fairseq import checkpoints
    from benchmarks.synthetic_corpus import write_corpus
    from benchmarks.trainers import model_flags, quiet
    from benchmarks.translating import write_model

    with quiet():
        write_corpus(folder, 5000, args.vocabulary)
        write_corpus(folder, args.sentences, args.vocabulary, "test")
        flags = model_flags("b2t_transformer", args.layers, args.width, dropout=0.1)
        write_model(folder, folder / f"{OURS}.pt", [*flags, "--residual", "post_ln"])
        state, _ = to_stock(checkpoints.load(folder / f"{OURS}.pt"))
        checkpoints.save(state, folder / f"{FAIRSEQ}.pt")


def search_of(folder: Path, program: str, beam: int, **settings: bool) -> tuple[Callable[[dict], Any], Any]:
    """Return the search with a model that :func:`prepare` wrote, a function of a batch, and the model's task.

    Args:
        folder: the data and the models.
        program: ``FAIRSEQ``, or any other name for the model of this plugin.
        beam: hypotheses of a sentence; they are as long as their sources.
        **settings: ``int8`` and ``bf16``.
    """
    from fairseq import checkpoint_utils

    checkpoint = folder / f"{FAIRSEQ if program == FAIRSEQ else OURS}.pt"
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], {"data": str(folder)})
    search = argparse.Namespace(beam=beam, max_len_a=1, max_len_b=0, **settings)
    for model in models:
        model.prepare_for_inference_(argparse.Namespace(generation=search))
    return partial(task.inference_step, task.build_generator(models, search), models), task


def measure(folder: Path, args: argparse.Namespace) -> list[dict]:
    """Return one row for each task, program and setting; ratios are to fairseq's default within each round."""
    from benchmarks.measuring import in_turn, median_and_quartiles, ratios

    cases = [(task, program, kept) for task in args.tasks for program in (FAIRSEQ, OURS) for kept in (False, True)]
    found: dict[tuple[str, str, bool], list[tuple[float, int]]] = {case: [] for case in cases}
    for turn in range(args.rounds):
        for case in in_turn(cases, turn):
            found[case].append(run(*case, folder, args))
    rows = []
    for (task, program, kept), results in found.items():
        seconds, peaks = zip(*results, strict=True)
        own, fairseqs = ([s for s, _ in found[task, other, False]] for other in (program, FAIRSEQ))
        gain, quartiles = median_and_quartiles(ratios(own, seconds))
        speed, speed_quartiles = median_and_quartiles(ratios(fairseqs, seconds))
        median, _ = median_and_quartiles(seconds)
        rows.append(
            {
                **{"task": task, "program": program, "kept": kept, "seconds": median},
                **{"gain": gain, "gain_quartiles": quartiles, "speed_ratio": speed},
                **{"speed_ratio_quartiles": speed_quartiles, "peak_bytes": median_and_quartiles(peaks)[0]},
            }
        )
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        cells = [row["task"], row["program"], WITH if row["kept"] else WITHOUT, f"{row['seconds'] * 1e3:.0f} ms"]
        cells += [f"{row[name]:.2f} ({interval(row[f'{name}_quartiles'])})" for name in ("gain", "speed_ratio")]
        rows.append([*cells, f"{row['peak_bytes'] / 1e9:.2f} GB"])
    note = (
        f"Processor time of an update or a sentence. {medians(result)} The first ratio is to the same program that "
        f"returns memory, the second to fairseq that returns it. {result['setting']}."
    )
    header = ["task", "program", "freed memory", "time", "gain", "times as fast as fairseq", "peak memory"]
    return table_with_note(header, rows, "lllrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_model_size(parser)
    add_rounds(parser, 5)
    parser.add_argument("--tasks", nargs="+", choices=(TRAINING, TRANSLATION), default=[TRAINING, TRANSLATION])
    parser.add_argument("--updates", type=int, default=6, help="of a training that are timed")
    parser.add_argument("--max-tokens", type=int, default=1024, help="in an update")
    parser.add_argument("--sentences", type=int, default=32, help="that are translated")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        task, program, kept, folder = args.child
        assert kept == "0" or memory.keep_freed_memory()
        child(task, program, Path(folder), args)
        return
    from benchmarks.measuring import machine

    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args)
        rows = measure(Path(folder), args)
    setting = f"{model_size(args)}, updates of {args.max_tokens} tokens, batches of 4096 tokens, beam 4, one thread"
    result = {"machine": machine("cpu"), "setting": setting, "rounds": args.rounds, "rows": rows}
    print_and_write("kept_memory", result, markdown, args.output)


if __name__ == "__main__":
    main()

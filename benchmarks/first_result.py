"""Time how long users wait for the first update of a training and for the first translation, and count the memory.

    python -m benchmarks.first_result --output benchmarks/results/first_result

A model of about 150 million parameters makes one update and writes its checkpoint; that checkpoint, which has the
optimizer's state too, translates one sentence.  Each is a whole command, from its start to its end.  fairseq and this
plugin take turns; a first round, which is not counted, has the disk's files in memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from b2t_common import run_folder
from benchmarks.arguments import add_model_size, add_rounds, benchmark_parser, model_size
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

FAIRSEQ, OURS = "fairseq", "b2t"
TRAINING, TRANSLATION = "one update", "one translation"
# as the scripts that pip installs do
_CALL = "import sys; from {module} import {function}; sys.argv[0] = 'command'; sys.exit({function}())"
# fairseq runs with today's PyTorch and NumPy after the plugin is loaded; it reads a checkpoint as it always did
_COMPATIBLE = (
    "import b2t_fairseq; from b2t_fairseq.upstream.patching import ORIGINALS; from fairseq import checkpoint_utils; "
    "name = 'load_model_ensemble_and_task'; "
    "setattr(checkpoint_utils, name, ORIGINALS['fairseq.checkpoint_utils.' + name]); "
)
_MAIN = {
    FAIRSEQ: {
        TRAINING: (_COMPATIBLE + _CALL.format(module="fairseq_cli.train", function="cli_main"),),
        TRANSLATION: (_COMPATIBLE + _CALL.format(module="fairseq_cli.generate", function="cli_main"),),
    },
    OURS: {
        TRAINING: (_CALL.format(module="b2t_cli", function="main"), "train"),
        TRANSLATION: (_CALL.format(module="b2t_cli", function="main"), "generate"),
    },
}


def commands(folder: Path, args: argparse.Namespace) -> dict[tuple[str, str], list[str]]:
    """Return the commands by task and program."""
    from benchmarks.trainers import fairseqs_flags, model_flags, our_flags

    common = ["--optimizer", "adam", "--lr", "1e-4", "--max-tokens", "512", "--num-workers", "0", "--cpu"]
    common += ["--share-all-embeddings", "--disable-validation", "--no-epoch-checkpoints", "--max-update", "1"]
    sides = {FAIRSEQ: ("transformer", fairseqs_flags("cpu")), OURS: ("b2t_transformer", our_flags("cpu"))}
    found = {}
    for program, (arch, flags) in sides.items():
        run = folder / program
        training = [*common, *model_flags(arch, args.layers, args.width, 0.1), *flags, "--save-dir", str(run)]
        translation = ["--path", str(run / run_folder.LAST_CHECKPOINT), "--beam", "4", "--cpu", "--num-workers", "0"]
        # models that have learned nothing would end their sentences anywhere
        translation += [
            "--required-batch-size-multiple",
            "1",
            "--min-len",
            "20",
            "--max-len-a",
            "0",
            "--max-len-b",
            "20",
        ]
        for task, arguments in ((TRAINING, training), (TRANSLATION, translation)):
            found[task, program] = [sys.executable, "-c", *_MAIN[program][task], str(folder), *arguments]
    return found


def measure(command: list[str], threads: int) -> tuple[float, int]:
    """Return the seconds and the largest memory, in bytes, of a command."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr as stderr:
        said = stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"status {process.returncode} of {command}:\n{said.decode(errors='replace')[-2000:]}")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def rounds(folder: Path, args: argparse.Namespace) -> list[dict]:
    """Return one row for each task and program; ratios are to fairseq within each round."""
    from benchmarks.measuring import in_turn, median_and_quartiles, ratios

    calls = commands(folder, args)
    found: dict[tuple[str, str], list[tuple[float, int]]] = {case: [] for case in calls}
    for turn in range(args.rounds + 1):
        for program in in_turn([FAIRSEQ, OURS], turn):
            # each round trains anew
            (folder / program / run_folder.LAST_CHECKPOINT).unlink(missing_ok=True)
            for task in (TRAINING, TRANSLATION):
                found[task, program].append(measure(calls[task, program], args.threads))
    rows = []
    for (task, program), results in sorted(found.items(), key=lambda item: item[0][0]):
        seconds, peaks = zip(*results[1:], strict=True)
        fairseqs, fairseqs_peaks = zip(*found[task, FAIRSEQ][1:], strict=True)
        speed, quartiles = median_and_quartiles(ratios(fairseqs, seconds))
        row = {"task": task, "program": program, "seconds": median_and_quartiles(seconds)[0]}
        row |= {"speed_ratio": speed, "quartiles": quartiles, "peak_bytes": median_and_quartiles(peaks)[0]}
        rows.append({**row, "memory_ratio": median_and_quartiles(ratios(peaks, fairseqs_peaks))[0]})
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        speed = f"{row['speed_ratio']:.2f} ({interval(row['quartiles'])})"
        memory = f"{row['peak_bytes'] / 1e9:.2f} GB"
        rows.append(
            [row["task"], row["program"], f"{row['seconds']:.1f} s", speed, memory, f"{row['memory_ratio']:.2f}"]
        )
    note = f"Whole commands, in float32. {medians(result, 'fairseq')} {result['setting']}."
    header = ["task", "program", "time", "times as fast as fairseq", "peak memory", "memory, fairseq = 1"]
    return table_with_note(header, rows, "llrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_model_size(parser, width=832)
    add_rounds(parser, 5)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    args = parser.parse_args()
    from benchmarks.measuring import machine
    from benchmarks.synthetic_corpus import write_corpus

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, 64, args.vocabulary)
        write_corpus(folder, 1, args.vocabulary, "test")
        rows = rounds(folder, args)
    setting = f"{model_size(args)}, updates of at most 512 tokens, beam 4, {args.threads} thread(s)"
    result = {"machine": machine("cpu"), "setting": setting, "rounds": args.rounds, "rows": rows}
    print_and_write("first_result", result, markdown, args.output)


if __name__ == "__main__":
    main()

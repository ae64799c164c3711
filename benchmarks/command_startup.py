"""Measure the processor time of the commands that need no model: help, version, path, and reading a finished run.

python -m benchmarks.command_startup --output benchmarks/results/command_startup

Each command runs in a new process.  The time is user and system time together, with all imports.  The last row imports
the plugin, which imports fairseq: this is what the commands save.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from b2t_cli import COMMANDS
from b2t_cli.scoring.newstest import NEWSTESTS, PAPERS_PAIR
from b2t_common import run_folder
from b2t_common.model_line import ModelLine, format_model_line
from b2t_common.names import STACKS
from benchmarks.arguments import add_rounds, benchmark_parser
from benchmarks.measuring import machine, median_and_quartiles, rounds_in_turn
from benchmarks.write_result import interval, print_and_write, table_with_note

ROOT = Path(__file__).resolve().parent.parent
# as the script that pip installs does
B2T = ("-c", "import sys; from b2t_cli import main; sys.exit(main())")
IMPORT_ALONE = ("-c", "import b2t_fairseq")
REPORTS = 200  # in the log of the run that is read


def light_commands(folder: Path) -> dict[str, list[str]]:
    """Return the arguments of every command that imports neither torch nor fairseq, by what the table shows.

    Args:
        folder: what :func:`write_run` has written is read there.
    """
    run, output = str(folder / "run"), str(folder / "report")
    reading = {
        "b2t report RUN --text": ["report", run, "--text"],
        "b2t report RUN": ["report", run, "--output", output],
        "b2t table RUN": ["table", run],
        "b2t score GENERATED --reference FILE": [
            "score",
            str(folder / "generated.txt"),
            "--reference",
            str(folder / "reference.txt"),
        ],
    }
    asking = [["--help"], ["--version"], ["path"], *([command, "--help"] for command in COMMANDS)]
    return {**{f"b2t {' '.join(argv)}": argv for argv in asking}, **reading}


def write_run(folder: Path) -> None:
    """Write a run that has been trained and scored, and the translations of a text with its reference."""
    line = ModelLine("b2t", "none", {stack: list(range(6)) for stack in STACKS}, 1000, 1000)
    log = ["training on 1 devices (GPUs/TPUs)", format_model_line(line)]
    for update in range(50, 50 * REPORTS + 1, 50):
        loss = 4 + 400 / (update + 50)
        log.append(
            f"train_inner | loss={loss:.3f}, ppl=16, wps=5000, num_updates={update}, lr=0.001, gnorm=0.5, wall=9"
        )
        log.append(f"valid on 'valid' subset | loss {loss:.3f} | ppl 16 | num_updates {update}")
    log.append("done training in 9 seconds")
    metrics = {"BLEU": {"score": 20.0, "signature": "nrefs:1"}}
    sizes = {"encoder": 6, "decoder": 6}
    scores = {
        "run": "run",
        "language_pair": PAPERS_PAIR,
        "parameters": 1000,
        "layers": sizes,
        "unique_layers": sizes,
        "settings": {"residual": "b2t", "layer_sharing": "none"},
        "sets": {name: {"sacrebleu": name, "segments": 3, "metrics": metrics} for name in NEWSTESTS},
        "average": {"BLEU": 20.0},
        "missing": [],
        "published": [],
    }
    sentences = [f"This is sentence {number} of a short text." for number in range(100)]
    files = {
        f"run/{run_folder.LOG}": "".join(f"2026-01-01 10:00:00 | INFO | {message}\n" for message in log),
        f"run/{run_folder.SCORES}.json": json.dumps(scores),
        "generated.txt": "".join(f"D-{number}\t-0.1\t{text}\n" for number, text in enumerate(sentences)),
        "reference.txt": "".join(f"{text}\n" for text in sentences),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def processor_seconds(arguments: list[str]) -> float:
    """Return the user and system time of a Python process.

    Raises:
        CalledProcessError: the process fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int) -> list[dict[str, Any]]:
    """Return the time of every command; the first round, in which files are read from the disk, does not count."""
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder))
        arguments = {name: [*B2T, *argv] for name, argv in light_commands(Path(folder)).items()}
        arguments[f"python -c '{IMPORT_ALONE[1]}'"] = list(IMPORT_ALONE)
        processes = {name: lambda given=given: processor_seconds(given) for name, given in arguments.items()}
        times = rounds_in_turn(processes, rounds, warmup=1)
    rows = []
    for name, values in times.items():
        median, quartiles = median_and_quartiles(values)
        rows.append({"name": name, "seconds": median, "quartiles": quartiles})
    return rows


def markdown(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    rows = [[f"`{row['name']}`", f"{row['seconds']:.2f}", interval(row["quartiles"])] for row in result["rows"]]
    note = f"User and system time of a new process: median and quartiles over {result['rounds']} rounds."
    return table_with_note(["command", "processor seconds", "quartiles"], rows, "lrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_rounds(parser, 11)
    args = parser.parse_args()
    result = {"machine": machine("cpu"), "rounds": args.rounds, "rows": measure(args.rounds)}
    print_and_write("command_startup", result, markdown, args.output)


if __name__ == "__main__":
    main()

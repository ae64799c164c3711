"""The result of benchmarks/sampling/run.sh: one model with and without subwords drawn anew, with several seeds.

bash benchmarks/sampling/run.sh --work runs/sampling
python -m benchmarks.sampling_quality runs/sampling --output benchmarks/results/sampling_quality
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from b2t_common.errors import InputError
from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
from benchmarks.quickstart_runs import add_work, read_finished
from benchmarks.write_result import print_and_write, table_with_note

WITHOUT = "none"
"""The folder of the runs that keep the pieces of the data."""


def read_rows(work: Path) -> list[dict[str, Any]]:
    """Return one row for each setting, without sampling first: scores by seed, and the differences to that row.

    Raises:
        InputError: a setting has other seeds than the runs without sampling, or a run is not finished.
    """
    folders = sorted((path for path in work.iterdir() if path.is_dir()), key=lambda path: path.name != WITHOUT)
    seeds = {folder.name: sorted(seed.name for seed in folder.glob("seed*")) for folder in folders}
    rows: list[dict[str, Any]] = []
    for folder in folders:
        if seeds[folder.name] != seeds.get(WITHOUT):
            raise InputError(f"{folder} has the runs {seeds[folder.name]}, {WITHOUT} has {seeds.get(WITHOUT)}")
        runs = [read_finished(folder / seed, "benchmarks/sampling/run.sh") for seed in seeds[folder.name]]
        row = {"sampling": folder.name, "seeds": seeds[folder.name], "updates": runs[0].run.updates()}
        row |= {"parameters": runs[0].parameters}
        row |= {"bleu": [run.bleu for run in runs], "chrf": [run.chrf for run in runs]}
        first = rows[0] if rows else row
        row["differences"] = [own - other for own, other in zip(row["bleu"], first["bleu"], strict=True)]
        rows.append(row)
    return rows


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table with a note."""
    rows = []
    for row in result["rows"]:
        mean = f"{statistics.mean(row['bleu']):.2f}"
        each = ", ".join(f"{score:.2f}" for score in row["bleu"])
        differences = row["differences"]
        difference = ""
        if row["sampling"] != WITHOUT:
            least, most = min(differences), max(differences)
            difference = f"{statistics.mean(differences):+.2f} ({least:+.2f} to {most:+.2f})"
        rows.append([row["sampling"], mean, each, f"{statistics.mean(row['chrf']):.2f}", difference])
    header = ["`--subword-sampling`", "BLEU, mean", "each seed", "chrF2, mean", "difference of BLEU"]
    first = result["rows"][0]
    note = (
        f"Multi30k, test_2016_flickr, {len(first['seeds'])} seeds, {first['updates']:,} updates, "
        f"{first['parameters']:,} parameters. Differences are those of two runs with one seed."
    )
    return table_with_note(header, rows, "lrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_work(parser)
    args = parser.parse_args()
    print_and_write(
        "sampling_quality", {"machine": machine("cpu"), "rows": read_rows(args.work)}, markdown, args.output
    )


if __name__ == "__main__":
    main()

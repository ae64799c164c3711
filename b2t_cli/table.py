"""``b2t table``: one row per configuration, over its seeds."""

from __future__ import annotations

from pathlib import Path

from b2t_common.files import require_prefix

from .arguments import command_parser


def main(argv: list[str]) -> int:
    """Print parameters, training speed and BLEU of runs, one row per configuration: mean and standard deviation.

    Runs are SWEEP/CONFIGURATION/seed1, SWEEP/CONFIGURATION/seed2, ... or CONFIGURATION_seed1, ...  Each has
    evaluation/scores.json, which b2t score writes, and train.log, fairseq's log with --log-format simple.  A run that
    lacks them is left out with a note, and the exit status is 1.
    """
    parser = command_parser("table", main)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="write PREFIX.json, .md and .tex too")
    args = parser.parse_args(argv)
    if args.output:
        require_prefix(args.output)
    from . import tables
    from .scoring import configurations

    rows = configurations.compare(args.runs)
    table = configurations.build_table(rows)
    if args.output:
        tables.write(args.output, {"configurations": rows}, [table])
    print(table.text())
    return int(any(row["failed"] for row in rows))

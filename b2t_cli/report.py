"""``b2t report``: curves, states and scores of runs, from their logs and checkpoints."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from . import style


def main(argv: list[str]) -> None:
    """Report on runs, ended or going on: what they are, how they are getting on, which diverged, what they score.

    A run is the folder that scripts/train.sh wrote, any --save-dir of fairseq-train with its log in it (train.log, or
    the only .log), or a log itself; with --log-format simple or json.  The table is printed; report.html, a page that
    needs no other file, and each figure as PNG and SVG go to the folder --output.
    """
    parser = argparse.ArgumentParser(prog="b2t report", description=" ".join(main.__doc__.split()))
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or its log")
    parser.add_argument(
        "--output", type=Path, default=Path("report"), metavar="DIR", help="where to write (default: report)"
    )
    parser.add_argument("--text", action="store_true", help="print the table only; needs no matplotlib")
    args = parser.parse_args(argv)
    if not args.text:
        style.require("report")
    from .reporting import summary
    from .runs import run

    runs = run.read_all(args.runs)
    tables = [summary.table(runs), *summary.score_tables(runs)]
    if not args.text:
        from .reporting import output

        page = output.write(args.output, output.build(runs, f"b2t report {shlex.join(argv)}"))
    print("\n\n".join(table.text() for table in tables))
    if not args.text:
        print(f"\nwritten: {page}")

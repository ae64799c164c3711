"""``b2t report``: curves, states and scores of runs, from their logs and checkpoints."""

from __future__ import annotations

import shlex
from pathlib import Path

from b2t_common.files import require_folder

from . import style
from .arguments import add_output_folder, command_parser


def main(argv: list[str]) -> None:
    """Report on runs, in training or ended: their models, their states and curves, their scores, and which diverged.

    A run is the folder that scripts/train.sh wrote, any --save-dir of fairseq-train with its log in it (train.log, or
    the only .log), or a log itself, redirected or by --log-file.  The table is printed.  report.html, a page that needs
    no other file, and each figure as PNG and SVG are written to the folder --output.

    With --against SETTING, the last validation losses of runs that differ in a setting, such as lr, are compared: for
    each model the best value, how near the others come to it, and a figure.  Runs whose other settings are equal are of
    one model.
    """
    parser = command_parser("report", main)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or its log")
    parser.add_argument(
        "--against",
        metavar="SETTING",
        help="also compare losses at different values of a setting of fairseq, for instance lr",
    )
    add_output_folder(parser, "report")
    args = parser.parse_args(argv)
    if not args.text:
        style.require("report")
        require_folder(args.output)
    from .reporting import summary
    from .runs import run

    runs = run.read_all(args.runs)
    comparison = None
    if args.against:
        from .reporting import against

        comparison = against.compare(runs, args.against)
    tables = [summary.table(runs), *([comparison.table()] if comparison else []), *summary.score_tables(runs)]
    texts = [table.text() for table in tables]
    if not args.text:
        from .reporting import output

        page = output.write(args.output, output.build(runs, f"b2t report {shlex.join(argv)}", comparison))
        texts.append(f"written: {page}")
    print("\n\n".join(texts))

"""``b2t average``: the mean of several checkpoints of one run."""

from __future__ import annotations

from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.run_folder import NUMBERED_CHECKPOINTS

from .arguments import command_parser

DEFAULT_COUNT = 10


def main(argv: list[str]) -> None:
    """Average checkpoints; parameters that are tied stay tied and are written once."""
    parser = command_parser(
        "average",
        main,
        epilog="The papers average the last 10 epochs: b2t average RUN --last 10 --output RUN/averaged.pt",
    )
    parser.add_argument("inputs", nargs="+", type=Path, help="the folder of one run, or checkpoint files")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--last", type=int, metavar="N", help=f"the last N of a folder (default: {DEFAULT_COUNT})")
    parser.add_argument(
        "--by",
        choices=list(NUMBERED_CHECKPOINTS),
        default="epochs",
        help="which checkpoints of a folder (default: epochs)",
    )
    args = parser.parse_args(argv)
    from b2t_fairseq import checkpoints

    from .runs.averaging import average, last_checkpoints

    files = args.inputs
    if len(files) == 1 and files[0].is_dir():
        files = last_checkpoints(files[0], DEFAULT_COUNT if args.last is None else args.last, args.by)
    elif args.last is not None:
        raise InputError(f"--last {args.last} chooses from one folder, but {len(files)} files or folders are given")
    checkpoints.save(average(files), args.output)
    print(f"average of {len(files)} checkpoints ({files[0].name} to {files[-1].name}): {args.output}")

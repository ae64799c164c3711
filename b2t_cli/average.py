"""``b2t average``: the mean of several checkpoints of one run."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import messages_beside, refuse_overwriting, require_file
from b2t_common.names import flag
from b2t_common.run_folder import NUMBERED_CHECKPOINTS, WRITTEN_IN_TRAINING

from .arguments import command_parser

DEFAULT_COUNT = 10
DEFAULT_BY = "epochs"


def main(argv: list[str]) -> None:
    """Average checkpoints; parameters that are tied stay tied and are written once."""
    parser = command_parser(
        "average",
        main,
        epilog="The papers average the last 10 epochs: b2t average RUN --last 10 --output RUN/averaged.pt.  --best "
        "takes the checkpoints whose validation was best by the --best-checkpoint-metric of the run; of equal ones, "
        "the later.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, help="the folder of one run, or checkpoint files")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--last", type=int, metavar="N", help=f"the last N of a folder (default: {DEFAULT_COUNT})")
    parser.add_argument("--best", type=int, metavar="K", help="the K of a folder with the best validations")
    parser.add_argument(
        "--by", choices=list(NUMBERED_CHECKPOINTS), help=f"which checkpoints of a folder (default: {DEFAULT_BY})"
    )
    args = parser.parse_args(argv)
    _check(args)
    from b2t_fairseq import checkpoints

    from .runs.averaging import average
    from .runs.selection import best_checkpoints, last_checkpoints

    files = args.inputs
    # without the optimizer's state in checkpoint_last.pt the run could not continue
    refuse_overwriting(args.output, _written_in_training(files[0]) if files[0].is_dir() else files)
    if files[0].is_dir() and args.best is not None:
        files = best_checkpoints(files[0], args.best)
    elif files[0].is_dir():
        files = last_checkpoints(files[0], DEFAULT_COUNT if args.last is None else args.last, args.by or DEFAULT_BY)
    checkpoints.save(average(files), args.output)
    named = f"{files[0].name} to {files[-1].name}" if args.best is None else ", ".join(file.name for file in files)
    told = f"average of {len(files)} checkpoints ({named}): {args.output}"
    print(told, file=messages_beside(args.output))


def _written_in_training(run: Path) -> list[Path]:
    return [file for file in run.iterdir() if re.fullmatch(WRITTEN_IN_TRAINING, file.name)]


def _check(args: argparse.Namespace) -> None:
    require_file(args.output)
    if args.best is not None and (args.last is not None or args.by is not None):
        other = "last" if args.last is not None else "by"
        raise InputError(
            f"--best {args.best} and {flag(other)} {getattr(args, other)} choose differently; give one of them"
        )
    if len(args.inputs) == 1 and args.inputs[0].is_dir():
        return
    for name in ("last", "best", "by"):
        if getattr(args, name) is not None:
            raise InputError(
                f"{flag(name)} {getattr(args, name)} chooses from one folder, but {len(args.inputs)} files or folders "
                "are given"
            )
    for file in args.inputs:
        if file.is_dir():
            raise InputError(f"{file} is a folder; give one folder and nothing else, or files")
    if len({file.resolve() for file in args.inputs}) < len(args.inputs):
        raise InputError(f"a file is given twice: {', '.join(map(str, args.inputs))}")

"""``b2t analyze``: gradients and activations by depth, of checkpoints and of fresh models."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import require_folder

from . import style


def main(argv: list[str]) -> None:
    """Show what happens in the layers of models on real sentences: where the gradient vanishes, which layers are idle.

    A model is a checkpoint, a run's folder, or a fresh one, whose flags, those of b2t train, come after --, with
    --residual before it for several at once.  All are drawn side by side: gradients at each layer, inside a layer and
    of the parameters, the change that a layer makes to its input, variance, and how the uses of shared layers agree.
    """
    parser = argparse.ArgumentParser(
        prog="b2t analyze",
        description=" ".join(main.__doc__.split()),
        usage="b2t analyze [options] --data DIR [CHECKPOINT ...] [-- flags of b2t train]",
    )
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT", help="checkpoint, or run's folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="fairseq's binary data")
    parser.add_argument(
        "--residual", metavar="NAMES", help="schemes of fresh models: all, or names such as post_ln,b2t"
    )
    parser.add_argument("--subset", default="valid", help="part of the data that is read (default: valid)")
    parser.add_argument("--tokens", type=int, default=4000, metavar="N", help="target tokens read (default: 4000)")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument(
        "--output", type=Path, default=Path("analysis"), metavar="DIR", help="where to write (default: analysis)"
    )
    parser.add_argument("--text", action="store_true", help="print the table only; needs no matplotlib")
    flags = argv[argv.index("--") + 1 :] if "--" in argv else []
    args = parser.parse_args(argv[: argv.index("--")] if "--" in argv else argv)
    _check(args, flags)
    from .analysis import command

    command.analyze(args, flags, f"b2t analyze {shlex.join(argv)}")


def _check(args: argparse.Namespace, flags: list[str]) -> None:
    if not args.checkpoints and not flags:
        raise InputError(
            "give a checkpoint, or the flags of a fresh model after --, for instance -- --arch b2t_transformer"
        )
    if args.residual and not flags:
        raise InputError(f"--residual {args.residual} is of fresh models; give their flags after --")
    given = {flag.split("=")[0] for flag in flags}
    if flags and not given & {"--arch", "-a"}:
        raise InputError(f"{shlex.join(flags)}: --arch is missing; for instance -- --arch b2t_transformer")
    if args.residual and "--residual" in given:
        raise InputError(f"--residual {args.residual} contradicts the one in {shlex.join(flags)}; drop one of them")
    if not Path(args.data.split(":")[0]).is_dir():
        raise InputError(f"--data {args.data}: no such folder")
    if args.tokens < 1:
        raise InputError(f"--tokens {args.tokens}: give a positive number")
    if not args.text:
        style.require("analyze")
        require_folder(args.output)

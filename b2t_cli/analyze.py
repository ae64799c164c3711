"""``b2t analyze``: gradients and activations by depth, of checkpoints and of fresh models."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import require_folder

from . import style
from .arguments import add_output_folder, command_parser, require_positive


def main(argv: list[str]) -> None:
    """Show what happens in the layers of models on real sentences: where the gradient vanishes, which layers are idle.

    A model is a checkpoint, the folder of a run, or a fresh model.  The flags of a fresh model, those of b2t train,
    follow --; --residual before it names several schemes.  All models are drawn side by side: gradients at each layer,
    inside a layer and of the parameters, the change that a layer makes to its input, variance, and how the uses of
    shared layers agree.
    """
    parser = command_parser(
        "analyze", main, usage="b2t analyze [options] --data DIR [CHECKPOINT ...] [-- flags of b2t train]"
    )
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT", help="checkpoint, or run's folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="fairseq's binary data")
    parser.add_argument(
        "--residual", metavar="NAMES", help="schemes of fresh models: all, or names such as post_ln,b2t"
    )
    parser.add_argument("--subset", default="valid", help="part of the data that is read (default: valid)")
    parser.add_argument("--tokens", type=int, default=4000, metavar="N", help="target tokens read (default: 4000)")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    add_output_folder(parser, "analysis")
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
    require_positive("--tokens", args.tokens)
    if not args.text:
        style.require("analyze")
        require_folder(args.output)

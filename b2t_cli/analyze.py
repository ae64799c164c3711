"""``b2t analyze``: gradients and activations by depth, of checkpoints and of fresh models."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path

import torch

from b2t_common.errors import InputError
from b2t_common.files import require_folder, write_folder

from . import style, tables
from .analysis import figures, measuring, subjects, summary
from .path import with_plugin

NUMBERS = "analysis.json"


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
    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    models = []
    for subject in _subjects(args, flags):
        start = time.perf_counter()
        models.append(_analyze(subject, args, device))
        print(f"{subject.name}: {time.perf_counter() - start:.0f} s", flush=True)
    # a model that cannot read long sentences has read others
    tokens = dict.fromkeys(f"{model['tokens']:,}" for model in models)
    about = f"{' or '.join(tokens)} target tokens of {args.subset}"
    result = {"command": f"b2t analyze {shlex.join(argv)}", "data": args.data, "subset": args.subset, "models": models}
    if not args.text:
        drawn = figures.draw(models)
        files = {f"{name}.{kind}": content for name, kinds in drawn.items() for kind, content in kinds.items()}
        files[NUMBERS] = (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()
        write_folder(args.output, files, figures.FILES)
    print(f"\n{summary.table(models, about).text()}")
    if not args.text:
        print(f"\nwritten: {args.output / figures.OVERVIEW}.png, .svg, .json and a figure of each part")


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
    subjects.schemes(args.residual)
    if not Path(args.data.split(":")[0]).is_dir():
        raise InputError(f"--data {args.data}: no such folder")
    if args.tokens < 1:
        raise InputError(f"--tokens {args.tokens}: give a positive number")
    if not args.text:
        style.require("analyze")
        require_folder(args.output)


def _subjects(args: argparse.Namespace, flags: list[str]):
    paths = [subjects.checkpoint_file(path) for path in args.checkpoints]
    for name, path in zip(tables.labels(args.checkpoints), paths, strict=True):
        # neither a table nor an SVG can have all that a folder's name may have
        printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
        yield subjects.trained(printable, path, args.data)
    found, refused = False, []
    for residual in subjects.schemes(args.residual) if flags else ():
        try:
            yield subjects.fresh(args.data, with_plugin(flags), residual)
            found = True
        except InputError as error:
            if args.residual != "all":
                raise
            refused.append(error)
    # what no scheme can work with is a mistake, what one scheme cannot is not
    if refused and not found:
        raise refused[0]
    for error in refused:
        print(f"left out: {error}")


def _analyze(subject: subjects.Subject, args: argparse.Namespace, device: str) -> dict:
    subject.model.to(device)
    batches = list(subjects.batches(subject, args.subset, args.tokens, device))
    subjects.profile(subject, batches[0])
    return measuring.analyze(subject, batches)

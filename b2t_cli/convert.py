"""``b2t convert``: the papers' releases into this plugin, and this plugin into stock fairseq and safetensors."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from b2t_common.errors import InputError
from b2t_fairseq import checkpoints

from .conversion import export, release, stock
from .conversion.reading import read

_TO = {
    "plugin": "a checkpoint of this plugin (the default)",
    "stock": "one of fairseq's own transformer, which CTranslate2 reads too; Post-LN and Pre-LN only",
    "safetensors": "OUTPUT.safetensors with each tied parameter once, and OUTPUT.json",
}


def main(argv: list[str]) -> None:
    """Convert a checkpoint, check the result against the original, and report what was done.

    Raises:
        InputError: the checkpoint cannot be read, or cannot be expressed in the other format.
    """
    parser = argparse.ArgumentParser(
        prog="b2t convert",
        description="Convert a checkpoint, check the result against the original, and report what was done.",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="of either paper's release, or (with --to) of this plugin")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument(
        "--to", choices=list(_TO), default="plugin", help="\n".join(f"{name}: {text}" for name, text in _TO.items())
    )
    parser.add_argument(
        "--retie",
        action="store_true",
        help="of the sharing release: share the cross-attention biases too, which changes what the model computes",
    )
    args = parser.parse_args(argv)
    targets = export.files(args.output) if args.to == "safetensors" else (args.output,)
    if args.checkpoint.exists() and any(path.exists() and path.samefile(args.checkpoint) for path in targets):
        raise InputError(f"{args.output} is the checkpoint itself; give another file to write")
    state = read(args.checkpoint)
    try:
        report = _convert(state, args)
    except InputError as error:
        raise InputError(f"{args.checkpoint}: {error}") from None
    print("\n".join([*report, *map(str, targets)]))


def _convert(state: Mapping[str, Any], args: argparse.Namespace) -> list[str]:
    report: list[str] = []
    from_release = args.to == "plugin" or release.is_release(state)
    if from_release:
        state, report = release.convert(state, args.retie)
    elif args.retie:
        raise InputError("--retie is for checkpoints of the sharing release; this one is of this plugin")
    if args.to == "safetensors":
        return report + export.save(state, args.output)
    if args.to == "stock":
        state, more = stock.to_stock(state)
        report += more
    checkpoints.save(state, args.output)
    return report

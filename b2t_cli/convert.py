"""``b2t convert``: the papers' releases into this plugin, and this plugin into stock fairseq and safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    from .conversion import command

    print("\n".join(command.convert(args.checkpoint, args.output, args.to, args.retie)))

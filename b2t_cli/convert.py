"""``b2t convert``: the papers' releases into this plugin, and this plugin into stock fairseq and safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path

from b2t_common.files import messages_beside

from .arguments import command_parser

_TARGETS = {
    "plugin": "a checkpoint of this plugin (the default)",
    "stock": "one of fairseq's own transformer, which CTranslate2 reads too; Post-LN and Pre-LN only",
    "pre_rms_norm": "the model with RMSNorms that computes the same as this Pre-LN model with LayerNorms",
    "safetensors": "OUTPUT.safetensors with each tied parameter once, and OUTPUT.json",
}


def main(argv: list[str]) -> None:
    """Convert a checkpoint, check the result against the original, and report what was done."""
    parser = command_parser("convert", main, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of either paper's release, or (with --to) of this plugin")
    parser.add_argument("output", type=Path, help="file to write")
    targets = "\n".join(f"{name}: {text}" for name, text in _TARGETS.items())
    parser.add_argument("--to", choices=list(_TARGETS), default="plugin", help=targets)
    parser.add_argument(
        "--retie",
        action="store_true",
        help="of the sharing release: share the cross-attention biases too, which changes what the model computes",
    )
    args = parser.parse_args(argv)
    from .conversion import command

    report = command.convert(args.checkpoint, args.output, args.to, args.retie)
    print("\n".join(report), file=messages_beside(args.output))

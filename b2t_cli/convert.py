"""``b2t convert``: the papers' releases into this plugin, and this plugin into other formats."""

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
    "transformers": "the folder OUTPUT, which transformers loads with the code in it; translation models of all kinds",
    "fsmt": "the folder OUTPUT, which transformers loads as its own FSMT; Post-LN only",
}


def main(argv: list[str]) -> None:
    """Convert a checkpoint, check the result against the original, and report what was done."""
    parser = command_parser("convert", main, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of either paper's release, or (with --to) of this plugin")
    parser.add_argument("output", type=Path, help="file or folder to write")
    targets = "\n".join(f"{name}: {text}" for name, text in _TARGETS.items())
    parser.add_argument("--to", choices=list(_TARGETS), default="plugin", help=targets)
    parser.add_argument(
        "--retie",
        action="store_true",
        help="of the sharing release: share the cross-attention biases too, which changes what the model computes",
    )
    tokenizer = parser.add_argument_group("with --to transformers and --to fsmt, for the tokenizer")
    tokenizer.add_argument(
        "--data",
        type=Path,
        help="folder of the dictionaries and of spm.model or bpe.codes (default: the data of the training)",
    )
    for side in ("source", "target"):
        tokenizer.add_argument(f"--{side}-lang", help="as in en, if neither the checkpoint nor the data say it")
    args = parser.parse_args(argv)
    from .conversion import command

    options = {name: getattr(args, name) for name in ("data", "source_lang", "target_lang")}
    report = command.convert(args.checkpoint, args.output, args.to, args.retie, options)
    print("\n".join(report), file=messages_beside(args.output))

"""``b2t grow``: a deeper model that starts from the layers of a trained one, or a shared model untied."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import messages_beside, require_file
from b2t_common.names import STACKS, flag

from .arguments import command_parser

_EXAMPLES = f"""examples:
  b2t grow runs/3-3 --encoder-layers 6 --decoder-layers 6 --from sequence    as the layers 0 0 1 1 2 2
  b2t grow runs/3-3 --decoder-layers 6 --from 0,1,2/0,1,2,2,1,0              the decoder alone
  b2t grow runs/cycle_12                                                     parameters of its own for each layer

Then: b2t train DATA --finetune-from-model runs/3-3/{run_folder.GROWN} --save-dir NEW, with the flags of the deeper
model (--encoder-layers, --decoder-layers, no --layer-sharing). Optimizer and warm-up start anew."""


def main(argv: list[str]) -> None:
    """Write a checkpoint of a deeper model, without optimizer state, to be trained further with --finetune-from-model.

    Each of its layers starts as a layer, or as a parameter set, of the trained model. What depends on depth is made
    anew: DeepNorm's constants, Admin's omegas (measured again before the first update). The deeper model shares no
    layers. Without --from a shared model is untied: that its function stays the same is checked before it is written.
    """
    parser = command_parser(
        "grow",
        main,
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder or a checkpoint")
    for stack in STACKS:
        name = flag(f"{stack}_layers")
        parser.add_argument(name, type=int, metavar="N", help="layers of the deeper model (default: as many as now)")
    parser.add_argument(
        "--from",
        dest="order",
        metavar="ORDER",
        help="which layer or parameter set of the trained model each new layer starts as: sequence, cycle, cycle_rev "
        "or sandwich, with M the number of those that are there, or a list such as 0,1,2,2,1,0; ENCODER/DECODER gives "
        "each stack its own",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"file to write (default: {run_folder.GROWN} in its folder)"
    )
    args = parser.parse_args(argv)
    if not args.run.exists():
        raise InputError(f"{args.run}: there is neither such a run nor such a checkpoint")
    output = args.output or (args.run if args.run.is_dir() else args.run.parent) / run_folder.GROWN
    require_file(output)
    from .growing import command

    layers = {stack: getattr(args, f"{stack}_layers") for stack in STACKS}
    report = command.grow(args.run, layers, args.order, output)
    print("\n".join(report), file=messages_beside(output))

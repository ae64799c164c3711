"""Count how many graphs --compile compiles while a model reads each sentence of a text once.

python -m benchmarks.recompilations DATA --output benchmarks/results/recompilations

DATA is a folder that fairseq-preprocess --joined-dictionary wrote.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from benchmarks import trainers
from benchmarks.arguments import benchmark_parser, default_device
from benchmarks.measuring import machine
from benchmarks.write_result import origin, print_and_write


def measure(data: str, args: argparse.Namespace, device: str) -> dict:
    """Train for one epoch; return the numbers of batches, shapes and graphs, and the batch of the last compilation."""
    flags = [*trainers.model_flags("b2t_transformer", args.layers, args.width, dropout=0.1), "--compile"]
    flags += [*trainers.our_flags(device), "--required-batch-size-multiple", "1", "--save-dir", data]
    trainer = trainers.build_trainer(data, flags, device)
    trainer.cfg.dataset.max_tokens = args.max_tokens
    batches = trainer.get_train_iterator(epoch=1).next_epoch_itr(shuffle=True)
    trainer.begin_epoch(1)
    shapes, graphs, last, started = set(), 0, 0, time.perf_counter()
    for number, batch in enumerate(batches, start=1):
        shapes.add((*batch["net_input"]["src_tokens"].shape, batch["target"].shape[1]))
        trainers.train_step(trainer, [batch])
        compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        if compiled > graphs:
            graphs, last = compiled, number
            print(f"{graphs} graphs after batch {number}, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return {"batches": number, "shapes": len(shapes), "graphs": graphs, "last_compiling_batch": last}


def markdown(result: dict) -> str:
    """Return the result as a sentence."""
    return (
        f"In one epoch, a model of {result['layers']}-{result['layers']} layers read {result['batches']:,} batches of "
        f"{result['shapes']:,} different shapes. {result['graphs']} graphs were compiled, the last one for batch "
        f"{result['last_compiling_batch']}. {origin(result)}\n"
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--layers", type=int, default=6, help="layers of the encoder, and of the decoder")
    parser.add_argument("--width", type=int, default=64, help="embedding dimension")
    parser.add_argument("--max-tokens", type=int, default=2048, help="in a batch")
    args = parser.parse_args()
    device = default_device()
    with trainers.quiet():
        counts = measure(args.data, args, device)
    result = {"machine": machine(device), "layers": args.layers, **counts}
    print_and_write("recompilations", result, markdown, args.output)


if __name__ == "__main__":
    main()

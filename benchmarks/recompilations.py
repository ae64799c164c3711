#!/usr/bin/env python3
"""Count what --compile compiles while a model sees each sentence of a text once.

python benchmarks/recompilations.py DATA --output benchmarks/results/recompilations
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
import trainers
from measuring import machine
from write_result import finish


def measure(data: str, args: argparse.Namespace, device: str) -> dict:
    """Train for one epoch and return how many graphs were compiled, and when the last one."""
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


def sentence(result: dict) -> str:
    """Return the result as text."""
    return (
        f"In one epoch of {result['batches']:,} batches of {result['shapes']:,} different shapes, {result['graphs']} "
        f"graphs were compiled for {result['layers']}-{result['layers']} layers, the last one in batch "
        f"{result['last_compiling_batch']}. Machine: {result['machine']}. Command: `{result['command']}`\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of binarized data")
    parser.add_argument("--layers", type=int, default=6, help="layers of encoder and of decoder")
    parser.add_argument("--width", type=int, default=64, help="embedding dimension")
    parser.add_argument("--max-tokens", type=int, default=2048, help="in a batch")
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with trainers.quiet():
        found = measure(args.data, args, device)
    result = {"machine": machine(device), "layers": args.layers, **found}
    finish("recompilations.py", result, sentence, args.output)


if __name__ == "__main__":
    main()

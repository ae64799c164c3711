#!/usr/bin/env python3
"""What shared layers cost beside computation: gradients, the optimizer's state, checkpoints of fairseq's own trainer.

python benchmarks/checkpoint_size.py --output benchmarks/results/checkpoint_size
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
import trainers
from measuring import machine
from synthetic_corpus import write_corpus
from write_result import finish, markdown

TOKENS = 1024  # in the one update
UNIQUE = 6


def models(layers: list[int]) -> dict[str, tuple[int, list[str]]]:
    """Return what is compared, unshared layers first: name to depth N and flags."""
    found: dict[str, tuple[int, list[str]]] = {f"M=N={UNIQUE}": (UNIQUE, [])}
    for depth in layers:
        flags = ["--layer-sharing", "cycle_rev"]
        flags += ["--encoder-unique-layers", str(UNIQUE), "--decoder-unique-layers", str(UNIQUE)]
        found[f"M={UNIQUE}, N={depth}"] = (depth, flags)
    return found


def measure(data: Path, layers: int, flags: list[str], width: int, device: str) -> dict:
    """Train one update and save; return bytes of the gradients, of the optimizer's state and of the checkpoint."""
    flags = [*trainers.model_flags("b2t_transformer", layers, width, dropout=0.1), *flags, *trainers.our_flags(device)]
    trainer = trainers.build_trainer(str(data), [*flags, "--save-dir", str(data)], device)
    trainers.settle(trainer, next(trainers.updates(trainer, TOKENS, 1)))
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(data / "checkpoint.pt"), {"train_iterator": {"epoch": 1}})
    parameters = list(trainer.model.parameters())
    moments = [
        tensor
        for state in trainer.optimizer.optimizer.state.values()
        for tensor in state.values()
        if torch.is_tensor(tensor)
    ]
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "gradient_bytes": sum(p.grad.numel() * p.grad.element_size() for p in parameters if p.grad is not None),
        "optimizer_bytes": sum(tensor.numel() * tensor.element_size() for tensor in moments),
        "checkpoint_bytes": (data / "checkpoint.pt").stat().st_size,
    }


def table(result: dict) -> str:
    """Return the result as Markdown."""
    rows, first = [], result["rows"][0]
    for row in result["rows"]:
        cells = [row["variant"], f"{row['parameters'] / 1e6:.1f}M"]
        for name in ("gradient_bytes", "optimizer_bytes", "checkpoint_bytes"):
            cells.append(f"{row[name] / 1e6:,.1f} MB, {row[name] / first[name]:.4f}")
        rows.append(cells)
    note = f"Ratios to the first row, after one update. Width {result['width']}, vocabulary {result['vocabulary']}."
    header = ["layers", "parameters", "gradients", "optimizer's state", "checkpoint"]
    return markdown(header, rows, 1, result, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 18], help="depths N")
    parser.add_argument("--width", type=int, default=512, help="embedding dimension")
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    with tempfile.TemporaryDirectory() as folder, trainers.quiet():
        write_corpus(Path(folder), 1000, args.vocabulary)
        for name, (layers, flags) in models(args.layers).items():
            rows.append({"variant": name, **measure(Path(folder), layers, flags, args.width, device)})
            gc.collect()
    settings = {"machine": machine(device), "width": args.width, "vocabulary": args.vocabulary}
    finish("checkpoint_size.py", {**settings, "rows": rows}, table, args.output)


if __name__ == "__main__":
    main()

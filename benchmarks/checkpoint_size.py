"""Measure what depth costs a model with shared layers beside computation: gradients, optimizer state, checkpoints.

python -m benchmarks.checkpoint_size --output benchmarks/results/checkpoint_size

The checkpoints are those of fairseq's own trainer.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import torch

from b2t_cli.scoring.layout import millions
from benchmarks import trainers
from benchmarks.arguments import benchmark_parser, default_device
from benchmarks.measuring import machine, parameter_count
from benchmarks.synthetic_corpus import write_corpus
from benchmarks.write_result import print_and_write, table_with_note

TOKENS = 1024  # in the one update
UNIQUE_LAYERS = 6
SENTENCE_PAIRS = 1000


def models(depths: list[int]) -> dict[str, tuple[int, list[str]]]:
    """Return the depth N and the flags of each model by name, the model without sharing first."""
    compared: dict[str, tuple[int, list[str]]] = {f"M=N={UNIQUE_LAYERS}": (UNIQUE_LAYERS, [])}
    for depth in depths:
        flags = ["--layer-sharing", "cycle_rev"]
        flags += ["--encoder-unique-layers", str(UNIQUE_LAYERS), "--decoder-unique-layers", str(UNIQUE_LAYERS)]
        compared[f"M={UNIQUE_LAYERS}, N={depth}"] = (depth, flags)
    return compared


def measure(data: Path, depth: int, flags: list[str], width: int, device: str) -> dict:
    """Train one update and save; return the bytes of the gradients, the optimizer state and the checkpoint."""
    flags = [*trainers.model_flags("b2t_transformer", depth, width, dropout=0.1), *flags, *trainers.our_flags(device)]
    trainer = trainers.build_trainer(str(data), [*flags, "--save-dir", str(data)], device)
    trainers.train_until_updated(trainer, next(trainers.updates(trainer, TOKENS, 1)))
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(data / "checkpoint.pt"), {"train_iterator": {"epoch": 1}})
    gradients = [parameter.grad for parameter in trainer.model.parameters() if parameter.grad is not None]
    moments = [
        value
        for state in trainer.optimizer.optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    ]
    return {
        "parameters": parameter_count(trainer.model),
        "gradient_bytes": sum(tensor.numel() * tensor.element_size() for tensor in gradients),
        "optimizer_bytes": sum(tensor.numel() * tensor.element_size() for tensor in moments),
        "checkpoint_bytes": (data / "checkpoint.pt").stat().st_size,
    }


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows, first = [], result["rows"][0]
    for row in result["rows"]:
        cells = [row["variant"], millions(row["parameters"])]
        for name in ("gradient_bytes", "optimizer_bytes", "checkpoint_bytes"):
            cells.append(f"{row[name] / 1e6:,.1f} MB, {row[name] / first[name]:.4f}")
        rows.append(cells)
    note = (
        "After one update; the second number of a cell is its ratio to the first row. "
        f"Width {result['width']}, vocabulary {result['vocabulary']}."
    )
    header = ["layers", "parameters", "gradients", "optimizer state", "checkpoint"]
    return table_with_note(header, rows, "lrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 18], help="depths N")
    parser.add_argument("--width", type=int, default=512, help="embedding dimension")
    parser.add_argument("--vocabulary", type=int, default=32768, help="symbols in the joined dictionary")
    args = parser.parse_args()
    device = default_device()
    rows = []
    with tempfile.TemporaryDirectory() as folder, trainers.quiet():
        write_corpus(Path(folder), SENTENCE_PAIRS, args.vocabulary)
        for name, (depth, flags) in models(args.layers).items():
            rows.append({"variant": name, **measure(Path(folder), depth, flags, args.width, device)})
            gc.collect()
    settings = {"machine": machine(device), "width": args.width, "vocabulary": args.vocabulary}
    print_and_write("checkpoint_size", {**settings, "rows": rows}, markdown, args.output)


if __name__ == "__main__":
    main()

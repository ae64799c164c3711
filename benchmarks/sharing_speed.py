#!/usr/bin/env python3
"""Time one training step of the sharing paper's models in their real size: how fast shared layers train.

The steps of all models alternate in one process, as in train_step.py; what counts is the ratio within each round.  The
loss is fused with the output layer.

    python benchmarks/sharing_speed.py --output claims/results/speed
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
from measuring import machine, median_and_quartiles, ratios, times_in_turn
from train_step import arguments, build, make_batch, make_step, prepared
from write_result import finish, markdown

# N, width, scheme, sharing with M, and the paper's training speed; Post-LN's is 1
MODELS = {
    "Vanilla, N=6": (6, 512, "post_ln", None, 1.00),
    "Admin, N=6": (6, 512, "admin", None, 0.97),
    "Universal, M=1, N=6, width 1024": (6, 1024, "admin", ("sequence", 1), 0.48),
    "Sequence, M=6, N=12": (12, 512, "admin", ("sequence", 6), 0.63),
    "Cycle (rev), M=6, N=18": (18, 512, "admin", ("cycle_rev", 6), 0.47),
}
VANILLA, UNIVERSAL = "Vanilla, N=6", "Universal, M=1, N=6, width 1024"


def build_model(name: str, args: argparse.Namespace) -> torch.nn.Module:
    """Build one of the paper's models."""
    layers, width, residual, sharing, _ = MODELS[name]
    flags = {"residual": residual}
    if sharing:
        strategy, unique = sharing
        flags |= {"layer_sharing": strategy, "encoder_unique_layers": unique, "decoder_unique_layers": unique}
    return build("b2t_transformer", flags, argparse.Namespace(**{**vars(args), "layers": layers, "width": width}))


def measure(args: argparse.Namespace) -> list[dict]:
    """Return one row per model: parameters, median time, its speed against Vanilla's and against Universal's."""
    batch = make_batch(args)
    models = {name: build_model(name, args) for name in MODELS}
    steps = {name: make_step(model, batch, fused=True) for name, model in models.items()}
    times = times_in_turn(steps, args.warmup, args.rounds, args.device)
    rows = []
    for name, model in models.items():
        row = {
            "variant": name,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": statistics.median(times[name]),
            "published_speed": MODELS[name][-1],
        }
        for key, baseline in (("vanilla", VANILLA), ("universal", UNIVERSAL)):
            ratio, quartiles = median_and_quartiles(ratios(times[baseline], times[name]))
            row |= {f"speed_by_{key}": ratio, f"speed_by_{key}_quartiles": quartiles}
        rows.append(row)
    return rows


def table(result: dict) -> str:
    """Return the result as Markdown."""
    header = ["model", "parameters", "speed", "quartiles", "published", "by Universal's", "quartiles", "published"]
    published = {row["variant"]: row["published_speed"] for row in result["rows"]}
    rows = []
    for row in result["rows"]:
        cells = [row["variant"], f"{row['parameters'] / 1e6:.1f}M"]
        for key, baseline in (("vanilla", VANILLA), ("universal", UNIVERSAL)):
            low, high = row[f"speed_by_{key}_quartiles"]
            theirs = row["published_speed"] / published[baseline]
            cells += [f"{row[f'speed_by_{key}']:.2f}", f"{low:.2f} to {high:.2f}", f"{theirs:.2f}"]
        rows.append(cells)
    note = (
        f"Training steps per second by Vanilla's, whose step takes {result['rows'][0]['seconds']:.2f} s, and by "
        f"Universal's: medians over {result['rounds']} rounds. {result['size']}."
    )
    return markdown(header, rows, 1, result, note)


def main() -> None:
    args = prepared(arguments(__doc__))
    result = {
        "machine": machine(args.device),
        "size": f"Vocabulary {args.vocabulary}, {args.tokens} target tokens, {str(args.dtype).removeprefix('torch.')}",
        "rounds": args.rounds,
        "rows": measure(args),
    }
    finish("sharing_speed.py", result, table, args.output)


if __name__ == "__main__":
    main()

"""Time one training step of the sharing paper's models in their real size: how fast models with shared layers train.

python -m benchmarks.sharing_speed --output claims/results/speed

The models take turns, as in train_step, and each ratio is taken within one round.  The loss is fused with the output
layer.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from b2t_cli.scoring.layout import millions
from benchmarks.measuring import machine, median_and_quartiles, parameter_count, ratios, times_in_turn
from benchmarks.train_step import build, dtype_name, make_batch, make_step, parse, step_parser
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

# N, width, scheme, strategy and M, and the training speed that the paper reports relative to Vanilla
MODELS = {
    "Vanilla, N=6": (6, 512, "post_ln", None, 1.00),
    "Admin, N=6": (6, 512, "admin", None, 0.97),
    "Universal, M=1, N=6, width 1024": (6, 1024, "admin", ("sequence", 1), 0.48),
    "Sequence, M=6, N=12": (12, 512, "admin", ("sequence", 6), 0.63),
    "Cycle (rev), M=6, N=18": (18, 512, "admin", ("cycle_rev", 6), 0.47),
}
VANILLA, UNIVERSAL = "Vanilla, N=6", "Universal, M=1, N=6, width 1024"
BASELINES = {"vanilla": VANILLA, "universal": UNIVERSAL}


def build_model(name: str, args: argparse.Namespace) -> torch.nn.Module:
    """Build one of the paper's models."""
    layers, width, residual, sharing, _ = MODELS[name]
    flags = {"residual": residual}
    if sharing:
        strategy, unique_layers = sharing
        flags |= {
            "layer_sharing": strategy,
            "encoder_unique_layers": unique_layers,
            "decoder_unique_layers": unique_layers,
        }
    return build("b2t_transformer", flags, argparse.Namespace(**{**vars(args), "layers": layers, "width": width}))


def measure(args: argparse.Namespace) -> list[dict]:
    """Return one row per model: parameters, median time, speed relative to Vanilla and to Universal."""
    batch = make_batch(args)
    models = {name: build_model(name, args) for name in MODELS}
    steps = {name: make_step(model, batch, fused=True) for name, model in models.items()}
    times = times_in_turn(steps, args.warmup, args.rounds, args.device)
    rows = []
    for name, model in models.items():
        row = {
            "variant": name,
            "parameters": parameter_count(model),
            "seconds": statistics.median(times[name]),
            "published_speed": MODELS[name][-1],
        }
        for key, baseline in BASELINES.items():
            ratio, quartiles = median_and_quartiles(ratios(times[baseline], times[name]))
            row |= {f"speed_by_{key}": ratio, f"speed_by_{key}_quartiles": quartiles}
        rows.append(row)
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    header = ["model", "parameters", "speed relative to Vanilla", "quartiles", "published"]
    header += ["speed relative to Universal", "quartiles", "published"]
    published = {row["variant"]: row["published_speed"] for row in result["rows"]}
    rows = []
    for row in result["rows"]:
        cells = [row["variant"], millions(row["parameters"])]
        for key, baseline in BASELINES.items():
            published_speed = row["published_speed"] / published[baseline]
            cells += [f"{row[f'speed_by_{key}']:.2f}", interval(row[f"speed_by_{key}_quartiles"])]
            cells.append(f"{published_speed:.2f}")
        rows.append(cells)
    note = (
        f"Speed is training steps per second; a step of Vanilla takes {result['rows'][0]['seconds']:.2f} s. "
        f"{medians(result)} {result['size']}."
    )
    return table_with_note(header, rows, "lrrrrrrr", result, note)


def main() -> None:
    parser = step_parser(__doc__)
    parser.add_argument("--vocabulary", type=int, default=32768, help="symbols in the joined dictionary")
    args = parse(parser)
    result = {
        "machine": machine(args.device),
        "size": f"Vocabulary {args.vocabulary}, {args.tokens} target tokens, {dtype_name(args)}",
        "rounds": args.rounds,
        "rows": measure(args),
    }
    print_and_write("sharing_speed", result, markdown, args.output)


if __name__ == "__main__":
    main()

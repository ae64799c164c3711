#!/usr/bin/env python3
"""Compare the loss of each update of fairseq's transformer and of this plugin's Post-LN model with its fastest flags.

Both start from the same weights, read the same batches in the same order, and train with fairseq's own trainer.
Rounding alone makes two trainings part.  How far, is told by fairseq's model once more, from weights that differ in
their last place: a difference of the same size as that one's is rounding.

    python benchmarks/loss_curve.py DATA --output benchmarks/results/loss_curve

DATA is a folder of fairseq-preprocess --joined-dictionary.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
import trainers
from measuring import machine
from write_result import bare_table, finish, markdown

BASELINE = "fairseq transformer"
OURS = "b2t_transformer --residual post_ln"
DISTURBED = "fairseq transformer, disturbed"
NOISE = 1e-7  # in proportion to each weight: about one unit in the last place of float32
WARMUP_UPDATES = 100  # so that 200 updates train
SHOWN = (1, 10, 50, 100, 150, 200)


def curves(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return for each model, fairseq's first, its loss at each update, in nats per target token."""
    size = (args.layers, args.width, args.dropout)
    # fp16 would skip updates: in float32 on a GPU too
    theirs = trainers.model_flags("transformer", *size) + trainers.fairseqs_flags("cpu")
    ours = [*trainers.model_flags("b2t_transformer", *size), "--residual", "post_ln", *trainers.our_flags(args.device)]
    state = build(theirs, args).model.state_dict()
    found = {
        BASELINE: train(theirs, args, state),
        OURS: train(ours, args, state),
        DISTURBED: train(theirs, args, state, NOISE),
    }
    if args.device == "cuda":
        # what of our difference bfloat16 explains
        found[f"{BASELINE} --bf16"] = train([*theirs, "--bf16"], args, state)
    return found


def build(flags: list[str], args: argparse.Namespace) -> trainers.Trainer:
    """Build a trainer of a model with weights from fairseq's seed."""
    flags = [*flags, "--warmup-updates", str(WARMUP_UPDATES), "--save-dir", args.save_dir]
    return trainers.build_trainer(args.data, flags, args.device)


def train(
    flags: list[str], args: argparse.Namespace, state: dict[str, torch.Tensor], noise: float = 0.0
) -> list[float]:
    """Train from the weights in ``state``, multiplied by 1 + ``noise`` x N(0, 1); return each update's loss."""
    trainer = build(flags, args)
    trainer.model.load_state_dict(state)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trainer.model.parameters() if noise else ():
            factor = 1 + noise * torch.randn(weight.shape, generator=generator)
            weight.mul_(factor.to(weight))
    updates = itertools.islice(trainers.updates(trainer, args.max_tokens, 1), args.updates)
    return [trainers.train_step(trainer, update) for update in updates]


def difference(curve: list[float], baseline: list[float]) -> dict[str, float]:
    """Return how far a curve is from fairseq's: largest and mean distance, and largest in proportion."""
    distances = [abs(loss - other) for loss, other in zip(curve, baseline, strict=True)]
    return {
        "max": max(distances),
        "mean": statistics.mean(distances),
        "max_relative": max(distance / other for distance, other in zip(distances, baseline, strict=True)),
    }


def table(result: dict) -> str:
    """Return the result as Markdown."""
    losses = result["curves"]
    others = list(losses)[1:]
    header = ["update", BASELINE, *(cell for name in others for cell in (f"`{name}`", "difference"))]
    rows, updates = [], len(losses[BASELINE])
    for update in sorted({update for update in SHOWN if update < updates} | {updates}):
        loss = losses[BASELINE][update - 1]
        cells = [str(update), f"{loss:.6f}"]
        for name in others:
            other = losses[name][update - 1]
            cells += [f"{other:.6f}", f"{other - loss:+.1e}"]
        rows.append(cells)
    distances = [
        [f"`{name}`", *(f"{found[kind]:.1e}" for kind in ("max", "mean", "max_relative"))]
        for name, found in result["differences"].items()
    ]
    note = (
        "Loss with label smoothing in nats per target token, same first weights and batches. Disturbed: fairseq's "
        f"model again, in float32, from weights multiplied by 1 + {NOISE:.0e} N(0, 1). fairseq's transformer trains "
        f"with `{result['fairseqs_flags']}`, this plugin's with `{result['our_flags']}`. {result['setting']}."
    )
    titles = [f"distance from fairseq's over all {updates} updates", "largest", "mean", "largest, relative"]
    return f"{bare_table(header, rows, 0)}\n{markdown(titles, distances, 1, result, note)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--layers", type=int, default=3, help="of encoder and of decoder")
    parser.add_argument("--width", type=int, default=256, help="embedding dimension")
    parser.add_argument("--dropout", type=float, default=0.0, help="its random numbers may differ between the models")
    parser.add_argument("--max-tokens", type=int, default=2048, help="in an update, which is one batch")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as args.save_dir, trainers.quiet():
        found = curves(args)
    result = {
        "machine": machine(args.device),
        "setting": f"{args.layers}-{args.layers} layers, width {args.width}, dropout {args.dropout}, "
        f"{args.max_tokens} tokens in an update, {WARMUP_UPDATES} updates of warm-up",
        "fairseqs_flags": shlex.join(trainers.fairseqs_flags("cpu")),
        "our_flags": shlex.join(trainers.our_flags(args.device)),
        "curves": found,
        "differences": {name: difference(curve, found[BASELINE]) for name, curve in found.items() if name != BASELINE},
    }
    finish("loss_curve.py", result, table, args.output)


if __name__ == "__main__":
    main()

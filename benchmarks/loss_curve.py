"""Compare the loss of each update: fairseq's Transformer against this plugin's Post-LN model with its fastest flags.

    python -m benchmarks.loss_curve DATA --output benchmarks/results/loss_curve

DATA is a folder that fairseq-preprocess --joined-dictionary wrote.

Both models start from the same weights, read the same batches in the same order, and train with fairseq's own trainer.
Rounding alone makes two such trainings drift apart.  How far, fairseq's model shows that trains once more, from weights
that differ in their last digit: a difference of that size is rounding.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import statistics
import tempfile

import torch

from b2t_cli.tables import markdown_table
from benchmarks import trainers
from benchmarks.arguments import add_threads, benchmark_parser, default_device
from benchmarks.measuring import machine
from benchmarks.write_result import print_and_write, table_with_note

BASELINE = "fairseq transformer"
OURS = "b2t_transformer --residual post_ln"
DISTURBED = "fairseq transformer, disturbed"
NOISE = 1e-7  # relative to each weight: about one unit in the last place of float32
WARMUP_UPDATES = 100  # so few that 200 updates are enough to learn something
SHOWN = (1, 10, 50, 100, 150, 200)  # updates in the table


def curves(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the loss of each model at each update, in nats per target token; fairseq's model is the first."""
    size = (args.layers, args.width, args.dropout)
    # in float32, on a GPU too, because fp16 would skip updates
    baseline = trainers.model_flags("transformer", *size) + trainers.fairseqs_flags("cpu")
    ours = [*trainers.model_flags("b2t_transformer", *size), "--residual", "post_ln", *trainers.our_flags(args.device)]
    state = build(baseline, args).model.state_dict()
    losses = {
        BASELINE: train(baseline, args, state),
        OURS: train(ours, args, state),
        DISTURBED: train(baseline, args, state, NOISE),
    }
    if args.device == "cuda":
        # shows which part of our difference bfloat16 explains
        losses[f"{BASELINE} --bf16"] = train([*baseline, "--bf16"], args, state)
    return losses


def build(flags: list[str], args: argparse.Namespace) -> trainers.Trainer:
    """Build a trainer whose model has the initial weights of fairseq's seed."""
    flags = [*flags, "--warmup-updates", str(WARMUP_UPDATES), "--save-dir", args.save_dir]
    return trainers.build_trainer(args.data, flags, args.device)


def train(
    flags: list[str], args: argparse.Namespace, state: dict[str, torch.Tensor], noise: float = 0.0
) -> list[float]:
    """Train a model and return the loss of each update.

    Args:
        flags: the model's and the training's.
        args: the command line.
        state: the initial weights; each is multiplied by 1 + ``noise`` N(0, 1).
        noise: 0 leaves the weights as they are.
    """
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
    """Return the largest, the mean and the largest relative distance of a curve from fairseq's."""
    distances = [abs(loss - other) for loss, other in zip(curve, baseline, strict=True)]
    return {
        "max": max(distances),
        "mean": statistics.mean(distances),
        "max_relative": max(distance / other for distance, other in zip(distances, baseline, strict=True)),
    }


def losses_table(losses: dict[str, list[float]]) -> str:
    """Return the losses of some updates as Markdown."""
    baseline, others = losses[BASELINE], [name for name in losses if name != BASELINE]
    rows, updates = [], len(baseline)
    for update in sorted({update for update in SHOWN if update < updates} | {updates}):
        cells = [str(update), f"{baseline[update - 1]:.6f}"]
        for name in others:
            loss = losses[name][update - 1]
            cells += [f"{loss:.6f}", f"{loss - baseline[update - 1]:+.1e}"]
        rows.append(cells)
    header = ["update", BASELINE]
    for name in others:
        header += [f"`{name}`", "difference"]
    return markdown_table(header, rows, "r" * len(header))


def markdown(result: dict) -> str:
    """Return the result as Markdown: a table of losses and one of distances."""
    updates = len(result["curves"][BASELINE])
    rows = [
        [f"`{name}`", *(f"{distances[kind]:.1e}" for kind in ("max", "mean", "max_relative"))]
        for name, distances in result["differences"].items()
    ]
    header = [f"distance from fairseq's loss over all {updates} updates", "largest", "mean", "largest, relative"]
    note = (
        "The loss includes label smoothing and is in nats per target token. All models have the same initial weights "
        "and batches, but for the disturbed one: it is fairseq's model in float32, with its initial weights multiplied "
        f"by 1 + {NOISE:.0e} N(0, 1). fairseq's Transformer trains with `{result['fairseqs_flags']}`, this plugin's "
        f"model with `{result['our_flags']}`. {result['setting']}."
    )
    return f"{losses_table(result['curves'])}\n\n{table_with_note(header, rows, 'lrrr', result, note)}"


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    parser.add_argument("--layers", type=int, default=3, help="layers of the encoder, and of the decoder")
    parser.add_argument("--width", type=int, default=256, help="embedding dimension")
    parser.add_argument("--dropout", type=float, default=0.0, help="may draw other random numbers in each model")
    parser.add_argument("--max-tokens", type=int, default=2048, help="in an update, which is one batch")
    parser.add_argument("--updates", type=int, default=200)
    add_threads(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as args.save_dir, trainers.quiet():
        losses = curves(args)
    result = {
        "machine": machine(args.device),
        "setting": f"{args.layers}-{args.layers} layers, width {args.width}, dropout {args.dropout}, "
        f"{args.max_tokens} tokens in an update, {WARMUP_UPDATES} updates of warm-up",
        "fairseqs_flags": shlex.join(trainers.fairseqs_flags("cpu")),
        "our_flags": shlex.join(trainers.our_flags(args.device)),
        "curves": losses,
        "differences": {
            name: difference(curve, losses[BASELINE]) for name, curve in losses.items() if name != BASELINE
        },
    }
    print_and_write("loss_curve", result, markdown, args.output)


if __name__ == "__main__":
    main()

"""Time one training step of each residual scheme and sharing strategy against fairseq's own Transformer.

    python -m benchmarks.train_step                  a small model on the CPU, the base model on a GPU
    python -m benchmarks.train_step --rounds 40 --output benchmarks/results/train_step
    python -m benchmarks.train_step --only fused --vocabulary 32768 --output benchmarks/results/large_vocabulary

A step is forward, label-smoothed loss, backward, gradient clipping and Adam.  All models have the same size, are in the
memory of one process and train on the same batch.  They take turns, so that a machine that becomes slow slows all of
them, and each ratio is taken within one round.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

from b2t_cli.scoring.layout import millions
from b2t_fairseq.building import build_without_data
from b2t_fairseq.kernels.cross_entropy import fused_label_smoothed_loss
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.sharing import STRATEGIES, none, possible_sets
from benchmarks.arguments import add_model_size, add_rounds, add_threads, benchmark_parser, default_device, model_size
from benchmarks.measuring import (
    machine,
    median_and_quartiles,
    parameter_count,
    peak_growth,
    ratios,
    standing_bytes,
    times_in_turn,
)
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

BASELINE = "fairseq transformer (Post-LN)"
FUSED = "--criterion label_smoothed_cross_entropy_fused"


def variants(layers: int) -> dict[str, tuple[str, dict]]:
    """Return architecture and flags of all models by name, the baseline first."""
    compared = {BASELINE: ("transformer", {})}
    for scheme in SCHEMES:
        compared[f"--residual {scheme}"] = ("b2t_transformer", {"residual": scheme})
    compared[f"--residual b2t {FUSED}"] = ("b2t_transformer", {"residual": "b2t"})
    unique = max(1, layers // 2)
    for strategy in STRATEGIES:
        if strategy != none.__name__:
            m = unique if unique in possible_sets(strategy, layers) else layers
            flags = {"layer_sharing": strategy, "encoder_unique_layers": m, "decoder_unique_layers": m}
            compared[f"--residual b2t --layer-sharing {strategy}, M={m}"] = ("b2t_transformer", flags)
    return compared


def build(arch: str, flags: dict, args: argparse.Namespace) -> torch.nn.Module:
    """Build one model; its initial weights come from a fixed seed."""
    settings = argparse.Namespace(
        arch=arch,
        encoder_layers=args.layers,
        decoder_layers=args.layers,
        encoder_embed_dim=args.width,
        encoder_ffn_embed_dim=4 * args.width,
        encoder_attention_heads=max(1, args.width // 64),
        decoder_attention_heads=max(1, args.width // 64),
        share_all_embeddings=True,
        **{"dropout": 0.1, **flags},
    )
    ARCH_CONFIG_REGISTRY[arch](settings)
    torch.manual_seed(1)
    model = build_without_data(vars(settings), args.vocabulary, model_class=ARCH_MODEL_REGISTRY[arch])
    return model.to(args.device, args.dtype)


def make_batch(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return source, decoder input and target, each (batch, seq_len); every third sentence has padding."""
    generator = torch.Generator().manual_seed(1)
    sentences = max(1, args.tokens // args.length)
    source, target = (
        torch.randint(4, args.vocabulary, (sentences, args.length), generator=generator) for _ in range(2)
    )
    for sentence in range(0, sentences, 3):
        padding = 1 + sentence % (args.length // 4)
        source[sentence, :padding] = 1
        target[sentence, -padding:] = 1
    previous = target.roll(1, dims=1)
    previous[:, 0] = 2
    return tuple(tensor.to(args.device) for tensor in (source, previous, target))


def loss_of(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], fused: bool) -> torch.Tensor:
    """Return the label-smoothed loss of a batch, divided by the number of target tokens, padding included.

    Args:
        model: of this plugin or of fairseq.
        batch: as :func:`make_batch` returns it.
        fused: whether the loss is fused with the output layer, or fairseq's own.
    """
    source, previous, target = batch
    if fused:
        features, _ = model(source, None, previous, features_only=True)
        weight = model.decoder.output_projection.weight
        loss, _, _ = fused_label_smoothed_loss(features.flatten(0, 1), weight, target.flatten(), 0.1, padding=1)
    else:
        logits, _ = model(source, None, previous)
        log_probs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
        loss, _ = label_smoothed_nll_loss(log_probs.flatten(0, 1), target.flatten(), 0.1, ignore_index=1)
    return loss / target.numel()


def make_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], fused: bool) -> Callable[[], None]:
    """Return a function that does one training step; the arguments are those of :func:`loss_of`."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.98))

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model, batch, fused).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    return step


def peak_memory(model: torch.nn.Module, step: Callable[[], None], device: str) -> int:
    """Return the peak memory of a step in bytes: weights, gradients, Adam's state and activations."""
    model.zero_grad()
    return standing_bytes(model) + peak_growth(step, device)


def measure(args: argparse.Namespace) -> list[dict]:
    """Return one row per model: median time, ratios to the baseline within each round, peak memory."""
    batch = make_batch(args)
    compared = {
        name: variant for name, variant in variants(args.layers).items() if args.only in name or name == BASELINE
    }
    models = {name: build(arch, flags, args) for name, (arch, flags) in compared.items()}
    steps = {name: make_step(model, batch, FUSED in name) for name, model in models.items()}
    times = times_in_turn(steps, args.warmup, args.rounds, args.device)
    rows = []
    memory = {name: peak_memory(models[name], steps[name], args.device) for name in steps}
    for name in steps:
        ratio, quartiles = median_and_quartiles(ratios(times[name], times[BASELINE]))
        rows.append(
            {
                "variant": name,
                "parameters": parameter_count(models[name]),
                "seconds": statistics.median(times[name]),
                "time_ratio": ratio,
                "time_ratio_quartiles": quartiles,
                "peak_bytes": memory[name],
                "memory_ratio": memory[name] / memory[BASELINE],
            }
        )
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        time = [f"{row['time_ratio']:.3f}", interval(row["time_ratio_quartiles"], 3)]
        rows.append([row["variant"], millions(row["parameters"]), *time, f"{row['memory_ratio']:.3f}"])
    baseline = result["rows"][0]
    note = (
        f"Time and memory are relative to the first row, whose step takes {baseline['seconds'] * 1e3:.0f} ms and "
        f"{baseline['peak_bytes'] / 1e6:.0f} MB. {medians(result)} {result['size']}."
    )
    header = ["model", "parameters", "step time", "quartiles", "peak memory"]
    return table_with_note(header, rows, "lrrrr", result, note)


def step_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options of all benchmarks that time single steps."""
    gpu = default_device() == "cuda"
    parser = benchmark_parser(description)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16" if gpu else "float32")
    parser.add_argument("--tokens", type=int, default=16384 if gpu else 1024, help="target tokens in a batch")
    parser.add_argument("--length", type=int, default=32, help="tokens in a sentence")
    parser.add_argument("--warmup", type=int, default=3, help="steps of each model that do not count")
    add_rounds(parser, 15)
    add_threads(parser)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the command line's arguments, ``dtype`` as PyTorch's type, and set the number of threads."""
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.dtype = getattr(torch, args.dtype)
    return args


def dtype_name(args: argparse.Namespace) -> str:
    """Return ``float32`` or ``bfloat16``."""
    return str(args.dtype).removeprefix("torch.")


def main() -> None:
    gpu = default_device() == "cuda"
    parser = step_parser(__doc__)
    add_model_size(parser, width=512 if gpu else 256, vocabulary=32768 if gpu else 4000)
    parser.add_argument("--only", default="", help="compare only the variants whose name contains this text")
    parser.set_defaults(rounds=28)
    args = parse(parser)
    result = {
        "machine": machine(args.device),
        "size": f"{model_size(args)}, {args.tokens} target tokens, {dtype_name(args)}",
        "rounds": args.rounds,
        "rows": measure(args),
    }
    print_and_write("train_step", result, markdown, args.output)


if __name__ == "__main__":
    main()

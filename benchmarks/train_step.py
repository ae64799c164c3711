#!/usr/bin/env python3
"""Time one training step of each residual scheme and sharing strategy against fairseq's own transformer.

All models have the same size and live in one process; their steps alternate, so that a machine that slows down slows
all of them down, and what counts is the ratio within each round.  A step is forward, label-smoothed loss, backward,
gradient clipping and Adam, on the same batch.

    python benchmarks/train_step.py                  a small model on the CPU, the base model on a GPU
    python benchmarks/train_step.py --rounds 40 --output benchmarks/results/train_step
    python benchmarks/train_step.py --only fused --vocabulary 32768 --output benchmarks/results/large_vocabulary
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from measuring import machine, median_and_quartiles, peak_growth, ratios, standing_bytes, times_in_turn
from write_result import finish, markdown

from b2t_fairseq.dictionaries import placeholder
from b2t_fairseq.kernels.cross_entropy import fused_label_smoothed_loss
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.sharing import STRATEGIES, none

BASELINE = "fairseq transformer (Post-LN)"
FUSED = "--criterion label_smoothed_cross_entropy_fused"


def variants(layers: int) -> dict[str, tuple[str, dict]]:
    """Return what is compared: name to architecture and flags."""
    found = {BASELINE: ("transformer", {})}
    for scheme in SCHEMES:
        found[f"--residual {scheme}"] = ("b2t_transformer", {"residual": scheme})
    found[f"--residual b2t {FUSED}"] = ("b2t_transformer", {"residual": "b2t"})
    unique = max(1, layers // 2)
    for strategy in STRATEGIES:
        if strategy != none.__name__:
            flags = {"layer_sharing": strategy, "encoder_unique_layers": unique, "decoder_unique_layers": unique}
            found[f"--residual b2t --layer-sharing {strategy}, M={unique}"] = ("b2t_transformer", flags)
    return found


def build(arch: str, flags: dict, args: argparse.Namespace) -> torch.nn.Module:
    """Build one model from the same seed."""
    dictionary = placeholder(args.vocabulary)
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    settings = argparse.Namespace(
        arch=arch,
        encoder_layers=args.layers,
        decoder_layers=args.layers,
        encoder_embed_dim=args.width,
        encoder_ffn_embed_dim=4 * args.width,
        encoder_attention_heads=max(1, args.width // 64),
        decoder_attention_heads=max(1, args.width // 64),
        share_all_embeddings=True,
        dropout=0.1,
        **flags,
    )
    ARCH_CONFIG_REGISTRY[arch](settings)
    torch.manual_seed(1)
    model = ARCH_MODEL_REGISTRY[arch].build_model(settings, task)
    return model.to(args.device, args.dtype)


def make_batch(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return source, decoder input and target, ``(batch, seq_len)``, with padding of some sentences."""
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


def make_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], fused: bool) -> Callable[[], None]:
    """Return a function that makes one training step, with the loss fused with the output layer or fairseq's own."""
    source, previous, target = batch
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.98))

    def step() -> None:
        optimizer.zero_grad()
        if fused:
            features, _ = model(source, None, previous, features_only=True)
            weight = model.decoder.output_projection.weight
            loss, _, _ = fused_label_smoothed_loss(features.flatten(0, 1), weight, target.flatten(), 0.1, padding=1)
        else:
            logits, _ = model(source, None, previous)
            log_probs = torch.log_softmax(logits.float(), dim=-1)
            loss, _ = label_smoothed_nll_loss(log_probs.flatten(0, 1), target.flatten(), 0.1, ignore_index=1)
        (loss / target.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    return step


def peak_memory(model: torch.nn.Module, step: Callable[[], None], device: str) -> int:
    """Return the bytes in use at the fullest moment of a step: weights, gradients, Adam's state and activations."""
    model.zero_grad()
    return standing_bytes(model) + peak_growth(step, device)


def measure(args: argparse.Namespace) -> list[dict]:
    """Return one row per variant: median time, ratios to the baseline within each round, peak memory."""
    batch = make_batch(args)
    chosen = {name: variant for name, variant in variants(args.layers).items() if args.only in name or name == BASELINE}
    models = {name: build(arch, flags, args) for name, (arch, flags) in chosen.items()}
    steps = {name: make_step(model, batch, FUSED in name) for name, model in models.items()}
    times = times_in_turn(steps, args.warmup, args.rounds, args.device)
    rows = []
    memory = {name: peak_memory(models[name], steps[name], args.device) for name in steps}
    for name in steps:
        ratio, quartiles = median_and_quartiles(ratios(times[name], times[BASELINE]))
        rows.append(
            {
                "variant": name,
                "parameters": sum(parameter.numel() for parameter in models[name].parameters()),
                "seconds": statistics.median(times[name]),
                "time_ratio": ratio,
                "time_ratio_quartiles": quartiles,
                "peak_bytes": memory[name],
                "memory_ratio": memory[name] / memory[BASELINE],
            }
        )
    return rows


def table(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        low, high = row["time_ratio_quartiles"]
        cells = [row["variant"], f"{row['parameters'] / 1e6:.1f}M", f"{row['time_ratio']:.3f}"]
        rows.append([*cells, f"{low:.3f} to {high:.3f}", f"{row['memory_ratio']:.3f}"])
    baseline = result["rows"][0]
    note = (
        f"Ratios to the first row, whose step takes {baseline['seconds'] * 1e3:.0f} ms and "
        f"{baseline['peak_bytes'] / 1e6:.0f} MB: medians over {result['rounds']} rounds. {result['size']}."
    )
    return markdown(["model", "parameters", "step time", "quartiles", "peak memory"], rows, 1, result, note)


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks of single steps can be told."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if gpu else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16" if gpu else "float32")
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--tokens", type=int, default=16384 if gpu else 1024, help="target tokens in a batch")
    parser.add_argument("--length", type=int, default=32, help="tokens in a sentence")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    return parser


def prepared(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the command line's arguments, with the type itself for its name; threads are set."""
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.dtype = getattr(torch, args.dtype)
    return args


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = arguments(__doc__)
    parser.add_argument("--layers", type=int, default=6, help="layers of encoder and of decoder")
    parser.add_argument("--width", type=int, default=512 if gpu else 256, help="embedding dimension")
    parser.add_argument("--only", default="", help="beside fairseq's, only the variants whose name has this in it")
    parser.set_defaults(vocabulary=32768 if gpu else 4000, rounds=28)
    args = prepared(parser)
    result = {
        "machine": machine(args.device),
        "size": f"{args.layers}-{args.layers} layers, width {args.width}, vocabulary {args.vocabulary}, "
        f"{args.tokens} target tokens, {str(args.dtype).removeprefix('torch.')}",
        "rounds": args.rounds,
        "rows": measure(args),
    }
    finish("train_step.py", result, table, args.output)


if __name__ == "__main__":
    main()

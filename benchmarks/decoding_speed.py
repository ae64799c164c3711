"""Time translation: b2t generate against fairseq-generate with fairseq's own Transformer of the same weights.

    python -m benchmarks.decoding_speed --output benchmarks/results/decoding_speed
    python -m benchmarks.decoding_speed --checkpoint runs/b2t/averaged.pt --data data-bin

Without a checkpoint the model has the papers' base size and random weights, and the sentences have the lengths of those
of WMT.  Then translations are as long as the longest source of their batch, so that both programs do the same work.  A
trained model ends its translations itself.  The programs take turns, and each ratio is taken within one round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from b2t_cli.conversion.stock import to_stock
from b2t_cli.scoring.layout import millions
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints, decoding
from b2t_fairseq.kernels import bfloat16, linear
from b2t_fairseq.kernels.quantized import engine_name
from b2t_fairseq.kernels.reordered import can_reorder
from benchmarks.arguments import (
    add_model_size,
    add_processor_time,
    add_rounds,
    add_threads,
    benchmark_parser,
    default_device,
    model_size,
)
from benchmarks.measuring import machine, median_and_quartiles, ratios, rounds_in_turn
from benchmarks.synthetic_corpus import write_corpus
from benchmarks.trainers import model_flags
from benchmarks.translating import counting_processor_time, search, write_model
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

BASELINE = "fairseq-generate"
OURS = "b2t generate"
INT8 = "b2t generate --int8"
BF16 = "b2t generate --bf16"
WITHOUT_ONEDNN = "b2t generate, without oneDNN's products"

Program = Callable[[list[str]], "tuple[float, dict[int, str]]"]
"""Translates with some flags of fairseq-generate; returns the seconds and the translations by sentence number."""


@contextmanager
def without_onednn() -> Iterator[None]:
    """Compute matrix products with what PyTorch calls for them, and leave the weights in their order."""
    before = linear.onednn_is_faster, decoding.reorder_weights
    linear.onednn_is_faster, decoding.reorder_weights = lambda: False, lambda model: 0
    try:
        yield
    finally:
        linear.onednn_is_faster, decoding.reorder_weights = before


def write_stock(model: Path, folder: Path) -> tuple[Path, list[str]]:
    """Return what fairseq-generate translates with: a checkpoint and flags.

    If the model fits fairseq's own Transformer, it is converted.  If not, the checkpoint is the same, and the flags
    select fairseq's operations.
    """
    try:
        state, _ = to_stock(checkpoints.load(model))
    except InputError:
        return model, ["--model-overrides", "{'kernels': 'fairseq'}"]
    checkpoints.save(state, folder / "stock.pt")
    return folder / "stock.pt", []


def programs(data: Path, model: Path, folder: Path, device: str) -> dict[str, Program]:
    """Return the programs to compare by name, the baseline first."""
    stock, overrides = write_stock(model, folder)

    def search_without_onednn(flags: list[str]) -> tuple[float, dict[int, str]]:
        with without_onednn():
            return search(data, model, folder, flags)

    compared = {
        BASELINE: lambda flags: search(data, stock, folder, [*flags, *overrides]),
        OURS: lambda flags: search(data, model, folder, flags),
    }
    if device == "cpu" and (linear.onednn_is_faster() or can_reorder()):
        compared[WITHOUT_ONEDNN] = search_without_onednn
    if device == "cpu" and engine_name() is not None:
        compared[INT8] = lambda flags: search(data, model, folder, flags, {"int8": True})
    if device == "cpu" and bfloat16.is_fast():
        compared[BF16] = lambda flags: search(data, model, folder, flags, {"bf16": True})
    return compared


def measure(compared: dict[str, Program], flags: list[str], setting: str, rounds: int) -> list[dict]:
    """Return one row for each program; all translate the same batches.

    Args:
        compared: the programs.
        flags: what all of them get.
        setting: what the table calls these batches.
        rounds: how often each program translates.
    """
    translations: dict[str, dict[int, str]] = {}

    def translate(name: str) -> float:
        seconds, translations[name] = compared[name](flags)
        return seconds

    times = rounds_in_turn({name: lambda name=name: translate(name) for name in compared}, rounds, warmup=1)
    rows, expected = [], translations[BASELINE]
    for name, seconds in times.items():
        speed, quartiles = median_and_quartiles(ratios(times[BASELINE], seconds))
        rows.append(
            {
                "setting": setting,
                "program": name,
                "sentences_per_second": len(expected) / statistics.median(seconds),
                "speed_ratio": speed,
                "speed_ratio_quartiles": quartiles,
                "same_translations": sum(text == expected[number] for number, text in translations[name].items()),
                "sentences": len(expected),
            }
        )
    return rows


def measure_random_model(folder: Path, flags: list[str], args: argparse.Namespace) -> tuple[str, list[dict]]:
    """Return what a model of random weights is, in words, and the rows for large batches and for single sentences."""
    # fewer sentences in batches of one, which take much longer
    for subset, sentences in (("test", args.sentences), ("test1", args.single or max(1, args.sentences // 8))):
        write_corpus(folder, sentences, args.vocabulary, subset)
    size = model_flags("b2t_transformer", args.layers, args.width, dropout=0.1)
    parameters = write_model(folder, folder / "model.pt", [*size, "--residual", "post_ln"])
    compared = programs(folder, folder / "model.pt", folder, args.device)
    flags = [*flags, "--max-len-a", "1", "--max-len-b", "0"]
    batches = ["--max-tokens", str(args.max_tokens), "--gen-subset", "test"]
    rows = measure(compared, [*flags, *batches], f"{args.max_tokens} tokens", args.rounds)
    single = ["--batch-size", "1", "--gen-subset", "test1"]
    rows += measure(compared, [*flags, *single], "1 sentence", args.rounds)
    return f"{model_size(args)}, {millions(parameters)} parameters with random values", rows


def measure_checkpoint(folder: Path, flags: list[str], args: argparse.Namespace) -> tuple[str, list[dict]]:
    """Return what a trained model is, in words, and the rows for the test set of its data."""
    compared = programs(args.data, args.checkpoint, folder, args.device)
    batches = ["--max-tokens", str(args.max_tokens), "--gen-subset", "test"]
    rows = measure(compared, [*flags, *batches], f"{args.max_tokens} tokens", args.rounds)
    return f"A trained model: {args.checkpoint.name}", rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        cells = [row["setting"], row["program"], f"{row['sentences_per_second']:.2f}", f"{row['speed_ratio']:.2f}"]
        same = f"{row['same_translations']} of {row['sentences']}"
        rows.append([*cells, interval(row["speed_ratio_quartiles"]), same])
    counted = "Processor time. " if result.get("processor_time") else ""
    note = f"{counted}{medians(result, BASELINE)} {result['size']}; beam {result['beam']}."
    header = ["batches", "program", "sentences a second", "times as fast", "quartiles", "same translations"]
    return table_with_note(header, rows, "llrrrr", result, note)


def parse_args() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a trained model (default: random weights)")
    parser.add_argument("--data", type=Path, help="its binarized data; the test set is translated")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    parser.add_argument("--fp16", action="store_true", help="translate in half precision, for a GPU")
    add_model_size(parser)
    parser.add_argument("--sentences", type=int, default=128, help="of a random test set")
    parser.add_argument("--single", type=int, help="sentences in batches of one (default: an eighth of the others)")
    parser.add_argument("--max-tokens", type=int, default=4096, help="in a batch, padding included")
    parser.add_argument("--beam", type=int, default=4)
    add_rounds(parser, 5)
    add_threads(parser)
    add_processor_time(parser)
    args = parser.parse_args()
    if (args.checkpoint is None) != (args.data is None):
        parser.error("--checkpoint and --data belong together: give both or none of them")
    return args


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    flags = ["--beam", str(args.beam), *(["--cpu"] if args.device == "cpu" else [])]
    flags += ["--fp16"] if args.fp16 else []
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, counting_processor_time(args.processor_time):
        measure_model = measure_checkpoint if args.checkpoint else measure_random_model
        size, rows = measure_model(Path(folder), flags, args)
    size += ", all programs with --fp16" if args.fp16 else ""
    result = {
        "machine": machine(args.device),
        "processor_time": args.processor_time,
        "size": size,
        "beam": args.beam,
        "rounds": args.rounds,
        "rows": rows,
    }
    print_and_write("decoding_speed", result, markdown, args.output)


if __name__ == "__main__":
    main()

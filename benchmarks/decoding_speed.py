#!/usr/bin/env python3
"""Time translation: b2t generate against fairseq-generate with fairseq's own transformer of the same weights.

Without a checkpoint the model has the papers' base size and random weights, the sentences have the lengths of WMT's,
and translations are as long as the longest source of their batch, for which both programs do the same work.  With a
trained checkpoint they end where the model ends them.  Rounds alternate; what counts is the ratio within each round.

    python benchmarks/decoding_speed.py --output benchmarks/results/decoding_speed
    python benchmarks/decoding_speed.py --checkpoint runs/b2t/averaged.pt --data data-bin --sentences 1000
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
from measuring import in_turn, machine, median_and_quartiles, ratios
from synthetic_corpus import write_corpus
from trainers import model_flags
from translating import search, write_model
from write_result import finish, markdown

from b2t_cli.conversion.stock import to_stock
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints
from b2t_fairseq.kernels import linear

BASELINE = "fairseq-generate"
OURS = "b2t generate"
ON_MKL = "b2t generate, without oneDNN's products"

Program = Callable[[list[str]], "tuple[float, dict[int, str]]"]


@contextmanager
def without_onednn() -> Iterator[None]:
    """Leave products to what PyTorch calls for them, as on a processor of Intel's."""
    before = linear.onednn_is_faster
    linear.onednn_is_faster = lambda: False
    try:
        yield
    finally:
        linear.onednn_is_faster = before


def write_stock(model: Path, folder: Path) -> tuple[Path, list[str]]:
    """Return a checkpoint of fairseq's own transformer, or the same one with fairseq's operations, and flags for it."""
    try:
        state, _ = to_stock(checkpoints.load(model))
    except InputError:
        return model, ["--model-overrides", "{'kernels': 'fairseq'}"]
    checkpoints.save(state, folder / "stock.pt")
    return folder / "stock.pt", []


def programs(data: Path, model: Path, folder: Path) -> dict[str, Program]:
    """Return what is compared: each translates with some flags and returns the seconds and the translations."""
    stock, overrides = write_stock(model, folder)

    def on_mkl(flags: list[str]) -> tuple[float, dict[int, str]]:
        with without_onednn():
            return search(data, model, folder, flags)

    found = {
        BASELINE: lambda flags: search(data, stock, folder, [*flags, *overrides]),
        OURS: lambda flags: search(data, model, folder, flags),
    }
    if not torch.cuda.is_available() and linear.onednn_is_faster():
        found[ON_MKL] = on_mkl
    return found


def measure(compared: dict[str, Program], flags: list[str], setting: str, rounds: int) -> list[dict]:
    """Return one row for each program, with the same batches."""
    times: dict[str, list[float]] = {name: [] for name in compared}
    translations: dict[str, dict[int, str]] = {}
    names = list(compared)
    for turn in range(rounds + 1):
        for name in in_turn(names, turn):
            seconds, translations[name] = compared[name](flags)
            times[name].append(seconds)
    rows, theirs = [], translations[BASELINE]
    for name in names:
        # the first round warms up
        speed, quartiles = median_and_quartiles(ratios(times[BASELINE][1:], times[name][1:]))
        rows.append(
            {
                "setting": setting,
                "program": name,
                "sentences_per_second": len(theirs) / statistics.median(times[name][1:]),
                "speed_ratio": speed,
                "speed_ratio_quartiles": quartiles,
                "same_translations": sum(text == theirs[number] for number, text in translations[name].items()),
                "sentences": len(theirs),
            }
        )
    return rows


def table(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        low, high = row["speed_ratio_quartiles"]
        cells = [row["setting"], row["program"], f"{row['sentences_per_second']:.2f}", f"{row['speed_ratio']:.2f}"]
        rows.append([*cells, f"{low:.2f} to {high:.2f}", f"{row['same_translations']} of {row['sentences']}"])
    note = f"Medians over {result['rounds']} rounds; ratios within each round. {result['size']}; beam {result['beam']}."
    header = ["batches", "program", "sentences a second", "times as fast", "quartiles", "same translations"]
    return markdown(header, rows, 2, result, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a trained model (default: random weights)")
    parser.add_argument("--data", type=Path, help="its binarized data, of which the test set is translated")
    parser.add_argument("--layers", type=int, default=6, help="layers of encoder and of decoder")
    parser.add_argument("--width", type=int, default=512, help="embedding dimension")
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--sentences", type=int, default=128, help="of a random test set")
    parser.add_argument("--max-tokens", type=int, default=4096, help="in a batch, padding included")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    if (args.checkpoint is None) != (args.data is None):
        parser.error("--checkpoint and --data belong together")
    torch.set_num_threads(args.threads)
    flags = ["--beam", str(args.beam), *([] if torch.cuda.is_available() else ["--cpu"])]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder, data, model = Path(name), args.data, args.checkpoint
        if model is None:
            data, model = folder, folder / "model.pt"
            # a few for batches of one
            for subset, sentences in (("test", args.sentences), ("test1", max(1, args.sentences // 8))):
                write_corpus(folder, sentences, args.vocabulary, subset)
            sizes = model_flags("b2t_transformer", args.layers, args.width, dropout=0.1)
            parameters = write_model(data, model, [*sizes, "--residual", "post_ln"])
            size = (
                f"{args.layers}-{args.layers} layers, width {args.width}, vocabulary {args.vocabulary}, "
                f"{parameters / 1e6:.1f}M parameters with random values"
            )
            flags += ["--max-len-a", "1", "--max-len-b", "0"]
        else:
            size = f"A trained model: {args.checkpoint.name}"
        compared = programs(data, model, folder)
        batches = ["--max-tokens", str(args.max_tokens), "--gen-subset", "test"]
        rows = measure(compared, [*flags, *batches], f"{args.max_tokens} tokens", args.rounds)
        if args.checkpoint is None:
            single = ["--batch-size", "1", "--gen-subset", "test1"]
            rows += measure(compared, [*flags, *single], "1 sentence", args.rounds)
    result = {
        "machine": machine("cuda" if torch.cuda.is_available() else "cpu"),
        "size": size,
        "beam": args.beam,
        "rounds": args.rounds,
        "rows": rows,
    }
    finish("decoding_speed.py", result, table, args.output)


if __name__ == "__main__":
    main()

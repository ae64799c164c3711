#!/usr/bin/env python3
"""Time translation on the CPU: CTranslate2 on the result of b2t convert --to stock, against fairseq-generate.

The model has the size of the sharing paper's (12-12 layers, 6 parameter sets each, width 512) and random weights; every
translation has the length of its source, so that both programs do the same work.  Both use the same threads, beam and
batches of sentences of similar length; rounds alternate, and what counts is the ratio within each round.

    python benchmarks/ctranslate2_speed.py
    python benchmarks/ctranslate2_speed.py --rounds 9 --output benchmarks/results/ctranslate2_speed
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import ctranslate2
import torch
from fairseq import options
from fairseq_cli import preprocess
from machine import processor
from measuring import in_turn, ratios
from trainers import model_flags
from translating import search, write_model
from write_result import finish, markdown

import b2t_fairseq
from b2t_cli.conversion.stock import to_stock
from b2t_fairseq import checkpoints
from b2t_fairseq.sharing import cycle_rev

BASELINE = "fairseq-generate"


def write_corpus(folder: Path, args: argparse.Namespace) -> tuple[Path, list[list[str]]]:
    """Write random sentences as fairseq's binary data; return its folder and the sentences."""
    generator = torch.Generator().manual_seed(1)
    words = [
        [f"w{word}" for word in torch.randint(0, args.vocabulary - 4, (args.length,), generator=generator).tolist()]
        for _ in range(args.sentences)
    ]
    (folder / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(args.vocabulary - 4)))
    for language in ("en", "de"):
        (folder / f"test.{language}").write_text("".join(" ".join(sentence) + "\n" for sentence in words))
    flags = ["-s", "en", "-t", "de", "--testpref", str(folder / "test"), "--srcdict", str(folder / "dict.txt")]
    parser = options.get_preprocessing_parser()
    preprocess.main(parser.parse_args([*flags, "--joined-dictionary", "--destdir", str(folder / "bin")]))
    return folder / "bin", words


def model_size(args: argparse.Namespace) -> list[str]:
    """Return the flags of the model."""
    flags = model_flags("b2t_transformer", args.layers, args.width, dropout=0.1)
    flags += ["--residual", args.residual, "--layer-sharing", cycle_rev.__name__]
    for stack in ("encoder", "decoder"):
        flags += [f"--{stack}-unique-layers", str(args.layers // 2)]
    return flags


def fairseq_seconds(data: Path, model: Path, args: argparse.Namespace) -> float:
    """Run fairseq-generate in this process; return the time that it reports for the search."""
    flags = ["--cpu", "--beam", str(args.beam), "--batch-size", str(args.batch)]
    flags += ["--min-len", str(args.length), "--max-len-b", str(args.length)]
    seconds, translations = search(data, model, data, flags)
    assert len(translations) == args.sentences
    return seconds


def ctranslate2_seconds(translator: ctranslate2.Translator, words: list[list[str]], args: argparse.Namespace) -> float:
    """Translate with CTranslate2; return the time."""
    start = time.perf_counter()
    found = translator.translate_batch(
        words,
        beam_size=args.beam,
        max_batch_size=args.batch,
        min_decoding_length=args.length,
        max_decoding_length=args.length,
    )
    assert all(len(result.hypotheses[0]) == args.length for result in found)
    return time.perf_counter() - start


def measure(folder: Path, args: argparse.Namespace) -> tuple[int, list[dict]]:
    """Return the number of parameters and one row per program."""
    data, words = write_corpus(folder, args)
    parameters = write_model(data, folder / "plugin.pt", model_size(args))
    state, _ = to_stock(checkpoints.load(folder / "plugin.pt"))
    checkpoints.save(state, folder / "stock.pt")
    converter = ctranslate2.converters.FairseqConverter(str(folder / "stock.pt"), str(data))
    converter.convert(str(folder / "ctranslate2"))
    runs: dict[str, Callable[[], float]] = {
        BASELINE: lambda: fairseq_seconds(data, folder / "stock.pt", args),
        "b2t generate": lambda: fairseq_seconds(data, folder / "plugin.pt", args),
    }
    for kind in ("float32", "int8"):
        translator = ctranslate2.Translator(
            str(folder / "ctranslate2"), compute_type=kind, inter_threads=1, intra_threads=args.threads
        )
        runs[f"CTranslate2, {kind}"] = lambda translator=translator: ctranslate2_seconds(translator, words, args)
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(args.rounds + 1):
        for name in in_turn(names, turn):
            times[name].append(runs[name]())
    rows = []
    for name in names:
        # the first round warms up
        speeds = ratios(times[BASELINE][1:], times[name][1:])
        rows.append(
            {
                "program": name,
                "seconds": statistics.median(times[name][1:]),
                "sentences_per_second": args.sentences / statistics.median(times[name][1:]),
                "speed_ratio": statistics.median(speeds),
                "speed_ratio_range": [min(speeds), max(speeds)],
            }
        )
    return parameters, rows


def table(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        low, high = row["speed_ratio_range"]
        cells = [row["program"], f"{row['sentences_per_second']:.2f}", f"{row['speed_ratio']:.2f}"]
        rows.append([*cells, f"{low:.2f} .. {high:.2f}"])
    note = f"Medians over {result['rounds']} rounds; ratios within each round. {result['size']}."
    return markdown(["program", "sentences a second", "times as fast", "from .. to"], rows, 1, result, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--residual", choices=("post_ln", "pre_ln"), default="post_ln")
    parser.add_argument("--layers", type=int, default=12, help="layers of encoder and of decoder")
    parser.add_argument("--width", type=int, default=512, help="embedding dimension")
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--length", type=int, default=25, help="words in a sentence and in its translation")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16, help="sentences in a batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        parameters, rows = measure(Path(folder), args)
    result = {
        "machine": f"{args.threads} cores of {processor()}, torch {torch.__version__}, ctranslate2 "
        f"{ctranslate2.__version__}, Python {platform.python_version()}, b2t_fairseq {b2t_fairseq.__version__}",
        "size": f"{args.layers}-{args.layers} layers of {args.layers // 2} parameter sets, width {args.width}, "
        f"vocabulary {args.vocabulary}, {parameters / 1e6:.1f}M parameters; {args.sentences} sentences of "
        f"{args.length} words in batches of {args.batch}, beam {args.beam}",
        "rounds": args.rounds,
        "rows": rows,
    }
    finish("ctranslate2_speed.py", result, table, args.output)


if __name__ == "__main__":
    main()

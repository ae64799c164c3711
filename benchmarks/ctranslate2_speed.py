"""Time translation: CTranslate2 with a model that b2t convert --to stock wrote, against fairseq-generate.

    python -m benchmarks.ctranslate2_speed
    python -m benchmarks.ctranslate2_speed --rounds 9 --output benchmarks/results/ctranslate2_speed

The model has the size of the sharing paper's (12-12 layers of 6 parameter sets each, width 512) and random weights.
Every translation has the length of its source, so that both programs do the same work.  Both use the same threads, beam
and batches of sentences.  The programs take turns, and each ratio is taken within one round.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ctranslate2
import torch
from fairseq import options
from fairseq_cli import preprocess

import b2t_fairseq
from b2t_cli.conversion.stock import to_stock
from b2t_cli.scoring.layout import millions
from b2t_common.names import STACKS
from b2t_fairseq import checkpoints
from b2t_fairseq.sharing import cycle_rev
from benchmarks.arguments import add_model_size, add_rounds, add_threads, benchmark_parser
from benchmarks.measuring import hardware, ratios, rounds_in_turn
from benchmarks.trainers import model_flags
from benchmarks.translating import search, write_model
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

BASELINE = "fairseq-generate"
PRECISIONS = {"cpu": ("float32", "int8"), "cuda": ("float16", "int8_float16")}  # of CTranslate2, by device


def write_corpus(folder: Path, args: argparse.Namespace) -> tuple[Path, list[list[str]]]:
    """Write random sentences of one length as fairseq's binary data; return its folder and the sentences."""
    generator = torch.Generator().manual_seed(1)
    sentences = [
        [f"w{word}" for word in torch.randint(0, args.vocabulary - 4, (args.length,), generator=generator).tolist()]
        for _ in range(args.sentences)
    ]
    (folder / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(args.vocabulary - 4)))
    for language in ("en", "de"):
        (folder / f"test.{language}").write_text("".join(" ".join(words) + "\n" for words in sentences))
    flags = ["-s", "en", "-t", "de", "--testpref", str(folder / "test"), "--srcdict", str(folder / "dict.txt")]
    parser = options.get_preprocessing_parser()
    preprocess.main(parser.parse_args([*flags, "--joined-dictionary", "--destdir", str(folder / "bin")]))
    return folder / "bin", sentences


def flags_of_the_model(args: argparse.Namespace) -> list[str]:
    """Return the flags of the model, whose parameter sets are half as many as its layers."""
    flags = model_flags("b2t_transformer", args.layers, args.width, dropout=0.1)
    flags += ["--residual", args.residual, "--layer-sharing", cycle_rev.__name__]
    for stack in STACKS:
        flags += [f"--{stack}-unique-layers", str(args.layers // 2)]
    return flags


def fairseq_seconds(data: Path, model: Path, args: argparse.Namespace) -> float:
    """Run fairseq-generate in this process; return the time that it reports for the search."""
    flags = ["--cpu" if args.device == "cpu" else "--fp16", "--beam", str(args.beam), "--batch-size", str(args.batch)]
    flags += ["--min-len", str(args.length), "--max-len-b", str(args.length)]
    seconds, translations = search(data, model, data, flags)
    assert len(translations) == args.sentences
    return seconds


def ctranslate2_seconds(
    translator: ctranslate2.Translator, sentences: list[list[str]], args: argparse.Namespace
) -> float:
    """Return the time that CTranslate2 takes to translate."""
    start = time.perf_counter()
    results = translator.translate_batch(
        sentences,
        beam_size=args.beam,
        max_batch_size=args.batch,
        min_decoding_length=args.length,
        max_decoding_length=args.length,
    )
    assert all(len(result.hypotheses[0]) == args.length for result in results)
    return time.perf_counter() - start


def programs(folder: Path, args: argparse.Namespace) -> tuple[int, dict[str, Callable[[], float]]]:
    """Return the number of parameters and, for each program, a function that translates and returns the seconds."""
    data, sentences = write_corpus(folder, args)
    parameters = write_model(data, folder / "plugin.pt", flags_of_the_model(args))
    state, _ = to_stock(checkpoints.load(folder / "plugin.pt"))
    checkpoints.save(state, folder / "stock.pt")
    converter = ctranslate2.converters.FairseqConverter(str(folder / "stock.pt"), str(data))
    converter.convert(str(folder / "ctranslate2"))
    compared: dict[str, Callable[[], float]] = {
        BASELINE: lambda: fairseq_seconds(data, folder / "stock.pt", args),
        "b2t generate": lambda: fairseq_seconds(data, folder / "plugin.pt", args),
    }
    for precision in PRECISIONS[args.device]:
        translator = ctranslate2.Translator(
            str(folder / "ctranslate2"),
            device=args.device,
            compute_type=precision,
            inter_threads=1,
            intra_threads=args.threads,
        )
        compared[f"CTranslate2, {precision}"] = lambda translator=translator: ctranslate2_seconds(
            translator, sentences, args
        )
    return parameters, compared


def measure(compared: dict[str, Callable[[], float]], args: argparse.Namespace) -> list[dict]:
    """Return one row for each program."""
    times = rounds_in_turn(compared, args.rounds, warmup=1)
    rows = []
    for name, seconds in times.items():
        speeds = ratios(times[BASELINE], seconds)
        rows.append(
            {
                "program": name,
                "seconds": statistics.median(seconds),
                "sentences_per_second": args.sentences / statistics.median(seconds),
                "speed_ratio": statistics.median(speeds),
                "speed_ratio_range": [min(speeds), max(speeds)],
            }
        )
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        speed = [f"{row['sentences_per_second']:.2f}", f"{row['speed_ratio']:.2f}"]
        rows.append([row["program"], *speed, interval(row["speed_ratio_range"])])
    note = f"{medians(result, BASELINE)} {result['size']}."
    header = ["program", "sentences a second", "times as fast", "lowest to highest"]
    return table_with_note(header, rows, "lrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--residual", choices=("post_ln", "pre_ln"), default="post_ln")
    parser.add_argument("--device", choices=PRECISIONS, default="cpu")
    add_model_size(parser, layers=12)
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--length", type=int, default=25, help="words in a sentence and in its translation")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16, help="sentences in a batch")
    add_rounds(parser, 7)
    add_threads(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        parameters, compared = programs(Path(folder), args)
        rows = measure(compared, args)
    result = {
        "machine": f"{hardware(args.device)}, torch {torch.__version__}, ctranslate2 "
        f"{ctranslate2.__version__}, Python {platform.python_version()}, b2t_fairseq {b2t_fairseq.__version__}",
        "size": f"{args.layers}-{args.layers} layers of {args.layers // 2} parameter sets, width {args.width}, "
        f"vocabulary {args.vocabulary}, {millions(parameters)} parameters; {args.sentences} sentences of "
        f"{args.length} words in batches of {args.batch}, beam {args.beam}"
        + (", fairseq's and this plugin's with --fp16" if args.device == "cuda" else ""),
        "rounds": args.rounds,
        "rows": rows,
    }
    print_and_write("ctranslate2_speed", result, markdown, args.output)


if __name__ == "__main__":
    main()

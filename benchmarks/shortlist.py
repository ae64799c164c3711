"""Compare translations with and without a lexical shortlist: what changes, and how long they take.

    python -m benchmarks.shortlist runs/quickstart-multi30k --large DATA --output benchmarks/results/shortlist

RUN are folders of scripts/quickstart.sh, whose test sets are translated with shortlists of several sizes.  DATA are
binarized English-German sentences with a large joined dictionary.  Sentences of their test set are translated by a
model of the papers' base size with random weights.  Then a translation is as long as the longest source of its batch.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import data_utils, indexed_dataset
from sacrebleu.metrics import CHRF

from b2t_cli.scoring.layout import millions
from b2t_cli.shortlists import command
from b2t_cli.shortlists.sentence_pairs import read_dictionaries
from b2t_cli.tables import markdown_table
from b2t_common import run_folder
from b2t_fairseq.decoding.shortlist import read
from benchmarks import decoding_speed
from benchmarks.arguments import add_processor_time, add_rounds, add_threads, benchmark_parser
from benchmarks.measuring import machine, processor_seconds
from benchmarks.quickstart_runs import read_references
from benchmarks.trainers import model_flags
from benchmarks.translating import counting_processor_time, search, translate, write_model
from benchmarks.translation_quality import BASELINE, compare
from benchmarks.write_result import interval, medians, origin, print_and_write

LANGUAGES = "en", "de"
DEFAULT = 100, 100  # translations of a symbol, frequent symbols
SIZES = (50, 50), DEFAULT, (200, 200)
ITERATIONS = 3


def make(data: Path, output: Path, best: int, frequent: int) -> float:
    """Write a shortlist from the training set; return how many seconds the processor takes."""
    return processor_seconds(lambda: command.write(data, LANGUAGES, "train", output, best, frequent, ITERATIONS))


def coverage(data: Path, shortlist: Path) -> dict[str, float]:
    """Return what a shortlist has for the test set.

    Returns:
        ``candidates``: the mean number for a sentence; ``recall``: the share of the references' pieces among them;
        ``whole``: the share of references that consist of candidates; ``symbols``: size of the dictionary.
    """
    # its messages would go into the files of fairseq-generate, which are closed
    logging.getLogger("fairseq.data.data_utils").setLevel(logging.WARNING)
    dictionaries, candidates = read_dictionaries(data, LANGUAGES), read(shortlist)
    sides = [
        data_utils.load_indexed_dataset(f"{data}/test.en-de.{language}", dictionary)
        for language, dictionary in zip(LANGUAGES, dictionaries, strict=True)
    ]
    numbers, found, pieces = [], [], []
    for source, target in zip(*sides, strict=True):
        nothing = torch.zeros(1, 0, dtype=torch.long)
        allowed = candidates.allowed(source.long().unsqueeze(0), nothing, dictionaries[1])
        numbers.append(len(allowed))
        found.append(int(torch.isin(target, allowed.symbols).sum()))
        pieces.append(len(target))
    return {
        "candidates": statistics.mean(numbers),
        "recall": sum(found) / sum(pieces),
        "whole": statistics.mean(some == every for some, every in zip(found, pieces, strict=True)),
        "symbols": len(dictionaries[1]),
    }


def measure_quality(run: Path, checkpoint: str, beam: int, folder: Path) -> list[dict[str, Any]]:
    """Return rows for the whole vocabulary, for each size of the shortlist, and for one with 8-bit weights."""
    folder.mkdir()
    data, references = run / "data", read_references(run)
    flags = ["--beam", str(beam), "--cpu", "--gen-subset", "test", "--remove-bpe", "sentencepiece"]
    compared: dict[str, dict[str, Any]] = {BASELINE: {}}
    covered = {}
    for int8, (best, frequent) in [*((False, size) for size in SIZES), (True, DEFAULT)]:
        path = folder / f"{best}-{frequent}.npz"
        if not path.is_file():
            make(data, path, best, frequent)
        name = f"--shortlist, {best} + {frequent}" + (", --int8" if int8 else "")
        compared[name] = {"shortlist": str(path), "int8": int8}
        covered[name] = coverage(data, path)
    translations = {}
    for name, settings in compared.items():
        _, lines = translate(data, run / checkpoint, folder, flags, settings)
        translations[name] = [lines[number] for number in range(len(references))]
    rows = compare(translations, references, "de")
    for row in rows:
        texts = [translation.text for translation in translations[row["variant"]]]
        row["chrf"] = float(CHRF().corpus_score(texts, [references]).score)
        row |= {"model": run.name, **covered.get(row["variant"], {})}
    return rows


def write_subset(data: Path, folder: Path, subset: str, number: int) -> None:
    """Write so many sentences of the test set, evenly spread, with the dictionaries."""
    for language, dictionary in zip(LANGUAGES, read_dictionaries(data, LANGUAGES), strict=True):
        shutil.copy(data / f"dict.{language}.txt", folder)
        sentences = data_utils.load_indexed_dataset(f"{data}/test.en-de.{language}", dictionary)
        builder = indexed_dataset.make_builder(f"{folder}/{subset}.en-de.{language}.bin", "mmap", len(dictionary))
        for place in np.linspace(0, len(sentences) - 1, number).astype(int):
            builder.add_item(sentences[place])
        builder.finalize(f"{folder}/{subset}.en-de.{language}.idx")


def measure_time(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return rows of times for large batches and for single sentences, and what they were measured on."""
    best, frequent = DEFAULT
    seconds = make(args.large, folder / "large.npz", best, frequent)
    for subset, sentences in (("test", args.sentences), ("test1", args.single)):
        write_subset(args.large, folder, subset, sentences)
    model = folder / "model.pt"
    size = model_flags("b2t_transformer", args.layers, args.width, dropout=0.1)
    parameters = write_model(folder, model, [*size, "--residual", "post_ln"])
    compared = decoding_speed.programs(folder, model, folder, "cpu")
    compared.pop(decoding_speed.WITHOUT_ONEDNN, None)
    for name in (decoding_speed.OURS, decoding_speed.INT8):
        if name in compared:
            settings = {"int8": name == decoding_speed.INT8, "shortlist": str(folder / "large.npz")}
            compared[f"{name} --shortlist"] = partial(search, folder, model, folder, settings=settings)
    flags = ["--beam", str(args.beam), "--cpu", "--max-len-a", "1", "--max-len-b", "0"]
    batches = ["--max-tokens", str(args.max_tokens), "--gen-subset", "test"]
    rows = decoding_speed.measure(compared, [*flags, *batches], f"{args.max_tokens} tokens", args.rounds)
    single = ["--batch-size", "1", "--gen-subset", "test1"]
    rows += decoding_speed.measure(compared, [*flags, *single], "1 sentence", args.rounds)
    pairs = len(data_utils.load_indexed_dataset(f"{args.large}/train.en-de.en", None))
    covered = coverage(args.large, folder / "large.npz")
    return {
        "rows": rows,
        "size": f"{args.layers}-{args.layers} layers, width {args.width}, {millions(parameters)} parameters",
        "shortlist": {"seconds": seconds, "pairs": pairs, "best": best, "frequent": frequent, **covered},
    }


def markdown(result: dict) -> str:
    """Return the result as Markdown: a table of translations, and one of times."""
    return f"{_quality_table(result)}\n\n{_time_table(result)} {origin(result)}\n"


def _quality_table(result: dict) -> str:
    rows = []
    for row in result["quality"]:
        limited = "candidates" in row
        cells = [row["model"], row["variant"] if limited else "all", f"{row['bleu']:.2f}", f"{row['difference']:+.2f}"]
        cells += ["" if row["p_value"] is None else f"{row['p_value']:.3f}", f"{row['chrf']:.2f}"]
        cells += [f"{row['changed'] / row['sentences']:.1%}", f"{row['recall']:.1%}" if limited else "100.0%"]
        rows.append([*cells, f"{row['candidates']:.0f} of {row['symbols']}" if limited else "all"])
    header = ["model", "symbols", "BLEU", "difference", "p", "chrF", "sentences that change", "recall", "candidates"]
    return (
        f"{markdown_table(header, rows, 'llrrrrrrr')}\n\n"
        f"{result['checkpoint']} of each model, beam {result['beam']}. A shortlist of 100 + 100 has at most 100 "
        "translations of each source symbol and 100 frequent symbols. Recall is the share of the references' pieces "
        "that are candidates, of which a sentence has so many on average. p is of the paired bootstrap."
    )


def _time_table(result: dict) -> str:
    timed, rows = result["time"], []
    for row in timed["rows"]:
        cells = [row["setting"], row["program"], f"{row['sentences_per_second']:.2f}", f"{row['speed_ratio']:.2f}"]
        rows.append([*cells, interval(row["speed_ratio_quartiles"])])
    made = timed["shortlist"]
    counted = "Processor time. " if result["processor_time"] else ""
    header = ["batches", "program", "sentences a second", "times as fast", "quartiles"]
    return (
        f"{markdown_table(header, rows, 'llrrr')}\n\n"
        f"{counted}{medians(result, decoding_speed.BASELINE)} {timed['size']} with random values; beam "
        f"{result['time_beam']}. The shortlist of {made['best']} + {made['frequent']} was learned from "
        f"{made['pairs']:,} sentence pairs in {made['seconds']:.0f} s of processor time; a sentence has "
        f"{made['candidates']:.0f} of {made['symbols']} symbols as candidates on average, and {made['recall']:.1%} of "
        "the references' pieces are among them."
    )


def parse_args() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of scripts/quickstart.sh")
    parser.add_argument("--checkpoint", default=run_folder.AVERAGE, help="in those folders")
    parser.add_argument(
        "--large", type=Path, required=True, metavar="DATA", help="binarized data with a large dictionary"
    )
    parser.add_argument("--layers", type=int, default=6, help="layers of the encoder, and of the decoder")
    parser.add_argument("--width", type=int, default=512, help="embedding dimension")
    parser.add_argument("--sentences", type=int, default=32, help="of the test set of DATA, in large batches")
    parser.add_argument("--single", type=int, default=8, help="of the test set of DATA, in batches of one")
    parser.add_argument("--max-tokens", type=int, default=4096, help="in a batch, padding included")
    parser.add_argument("--beam", type=int, default=4, help="of the timed translations; the others use 5")
    add_rounds(parser, 3)
    add_threads(parser)
    add_processor_time(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name, counting_processor_time(args.processor_time):
        folder = Path(name)
        quality = [row for run in args.runs for row in measure_quality(run, args.checkpoint, 5, folder / run.name)]
        timed = measure_time(args, folder)
    result = {
        "machine": machine("cpu"),
        "checkpoint": args.checkpoint,
        "beam": 5,
        "time_beam": args.beam,
        "rounds": args.rounds,
        "processor_time": args.processor_time,
        "quality": quality,
        "time": timed,
    }
    print_and_write("shortlist", result, markdown, args.output)


if __name__ == "__main__":
    main()

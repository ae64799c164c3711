"""Train on short sentences, translate longer ones: SHAPE's positions against sinusoidal ones, over several seeds.

    python -m benchmarks.long_sentences DATA --work runs/long_sentences --output benchmarks/results/long_sentences

DATA has parallel text in English and German, one sentence a line: train*.en and train*.de, val*, test*, also as .gz.
The models train on the sentences of train* with at most --longest words.  They translate those of test*, and all longer
sentences of all files, which no training has seen.  A run that has ended is not repeated.
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils

from b2t_cli.fairseq_commands import generate
from b2t_cli.scoring.by_length import group_by_length, score_by_length
from b2t_cli.scoring.generated import read_generated
from b2t_common import run_folder
from b2t_common.files import read_lines, write_lines
from b2t_fairseq import checkpoints
from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
from benchmarks.write_result import print_and_write, table_with_note

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("sinusoidal", "shape")
GENERATED = "generate-test.txt"
METRICS = ("BLEU", "chrF2", "length_ratio", "perplexity")
MODEL = shlex.split(
    "--arch b2t_transformer --residual b2t --share-all-embeddings --encoder-layers 2 --decoder-layers 2 "
    "--encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4 --decoder-attention-heads 4 "
    "--dropout 0.1"
)
TRAINING = shlex.split(
    "--optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0 --lr 3e-3 --lr-scheduler inverse_sqrt "
    "--warmup-updates 200 --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1 --max-tokens 1024 "
    "--required-batch-size-multiple 1 --num-workers 0 --no-epoch-checkpoints --disable-validation "
    "--log-format simple --log-interval 50"
)


def read_pairs(data: Path, prefix: str) -> list[tuple[str, str]]:
    """Return the pairs of all files whose name begins with ``prefix``, in the order of their names."""
    pairs: list[tuple[str, str]] = []
    for source in sorted([*data.glob(f"{prefix}*.en"), *data.glob(f"{prefix}*.en.gz")]):
        target = source.with_name(source.name.replace(".en", ".de"))
        pairs += zip(*(_lines(path) for path in (source, target)), strict=True)
    return pairs


def _lines(path: Path) -> list[str]:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode("utf-8").removesuffix("\n").split("\n")
    return read_lines(path)


def is_short(pair: tuple[str, str], longest: int) -> bool:
    """Whether both sides have at most ``longest`` words."""
    return all(len(text.split()) <= longest for text in pair)


def split(args: argparse.Namespace) -> dict[str, list[tuple[str, str]]]:
    """Return the pairs to train on, to validate with and to translate."""
    text = {prefix: read_pairs(args.data, prefix) for prefix in ("train", "val", "test")}
    short = {prefix: [pair for pair in pairs if is_short(pair, args.longest)] for prefix, pairs in text.items()}
    # Between both are pairs of which only the translation is long: they are neither trained on nor tested.
    longer = [pair for pairs in text.values() for pair in pairs if len(pair[0].split()) > args.longest]
    step = max(1, len(longer) // args.test_sentences)
    return {**short, "test": [*short["test"][: args.test_sentences], *longer[::step]]}


def prepare(args: argparse.Namespace) -> None:
    """Write text, a joint vocabulary and fairseq's binary data, unless they are there."""
    if (args.work / "data/test.en-de.de.idx").exists():
        return
    args.work.mkdir(parents=True, exist_ok=True)
    for name, pairs in split(args).items():
        for language, lines in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
            write_lines(args.work / f"{name}.{language}", lines)
    spm = [sys.executable, str(ROOT / "scripts/corpus/spm.py")]
    files = [str(args.work / f"train.{language}") for language in ("en", "de")]
    call(
        [*spm, "train", str(args.work / "spm"), "--vocab-size", str(args.vocabulary), *files], args.work / "prepare.log"
    )
    for name in ("train", "val", "test"):
        for language in ("en", "de"):
            text, pieces = (str(args.work / f"{name}{kind}.{language}") for kind in ("", ".pieces"))
            call(
                [*spm, "encode", str(args.work / run_folder.SENTENCEPIECE), text, pieces, "--workers", "1"],
                args.work / "prepare.log",
            )
    flags = [
        f"--{name}pref={args.work / pieces}.pieces"
        for name, pieces in (("train", "train"), ("valid", "val"), ("test", "test"))
    ]
    call(
        [
            "fairseq-preprocess",
            "-s",
            "en",
            "-t",
            "de",
            "--joined-dictionary",
            *flags,
            "--destdir",
            str(args.work / "data"),
        ],
        args.work / "prepare.log",
    )


def call(command: list[str], log: Path) -> None:
    """Run a command with one thread; its output goes to the end of ``log``.

    Raises:
        RuntimeError: it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(log, "a", encoding="utf-8") as output:
        if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment).returncode:
            raise RuntimeError(f"{shlex.join(command)} failed; see {log}")


def train(args: argparse.Namespace, kind: str, seed: int) -> Path:
    """Train a model, unless that is done; return the run's folder."""
    folder = args.work / f"{kind}.{seed}"
    if (folder / GENERATED).exists():
        return folder
    folder.mkdir(exist_ok=True)
    positions = ["--positions", kind]
    if kind == "shape":
        positions += ["--shape-offsets", str(args.offsets)]
    training = [*TRAINING, "--max-update", str(args.updates), "--seed", str(seed), "--save-dir", str(folder)]
    device = [] if args.gpu else ["--cpu"]
    call(["b2t", "train", str(args.work / "data"), *MODEL, *positions, *training, *device], folder / "log.txt")
    return folder


def translate(args: argparse.Namespace, folder: Path) -> Path:
    """Translate the test set, unless that is done; return the file of translations."""
    if not (folder / GENERATED).exists():
        search = shlex.split("--beam 4 --max-tokens 4000 --required-batch-size-multiple 1 --remove-bpe sentencepiece")
        search += ["--results-path", str(folder), "--path", str(folder / run_folder.LAST_CHECKPOINT)]
        generate.run([str(args.work / "data"), *search, *([] if args.gpu else ["--cpu"])])
    return folder / GENERATED


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the scores of each kind of positions, seed and group of lengths."""
    prepare(args)
    runs = [(kind, seed) for seed in args.seeds for kind in KINDS]
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = list(pool.map(lambda run: train(args, *run), runs))
    sources, references = (read_lines(args.work / f"test.{language}") for language in ("en", "de"))
    groups, rows = group_by_length(sources, args.bounds), []
    for (kind, seed), folder in zip(runs, folders, strict=True):
        hypotheses = read_generated(translate(args, folder), references)
        checkpoint = folder / run_folder.LAST_CHECKPOINT
        sums, pieces = losses(args, checkpoint)
        updates = checkpoints.load(checkpoint)["optimizer_history"][-1]["num_updates"]
        for row in score_by_length(hypotheses, references, sources, args.bounds):
            group = torch.tensor(groups[row["words"]])
            perplexity = math.exp(sums[group].sum() / pieces[group].sum())
            rows.append({"positions": kind, "seed": seed, "updates": updates, **row, "perplexity": perplexity})
    return rows


@torch.no_grad()
def losses(args: argparse.Namespace, checkpoint: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the negative log-likelihood of each reference of the test set, in nats, and its number of pieces."""
    overrides = {"data": str(args.work / "data")}
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], arg_overrides=overrides)
    data = task.load_dataset("test") or task.dataset("test")
    sums, pieces = torch.zeros(2, len(data))
    model.eval()
    for batch in data.batch_by_size(data.ordered_indices(), max_tokens=4000, required_batch_size_multiple=1):
        sample = data.collater([data[index] for index in batch])
        log_probabilities = model(**sample["net_input"])[0].log_softmax(dim=-1)
        target, is_piece = sample["target"].unsqueeze(-1), sample["target"] != task.target_dictionary.pad()
        loss = -log_probabilities.gather(-1, target).squeeze(-1)
        sums[sample["id"]], pieces[sample["id"]] = (loss * is_piece).sum(dim=1), is_piece.sum(dim=1).float()
    return sums, pieces


def markdown(result: dict[str, Any]) -> str:
    """Return the result as Markdown: a row for each group of lengths."""
    rows = []
    for words in dict.fromkeys(row["words"] for row in result["rows"]):
        group = [row for row in result["rows"] if row["words"] == words]
        cells = [words, f"{group[0]['sentences']:,}"]
        for metric in METRICS:
            cells += [_spread([row[metric] for row in group if row["positions"] == kind]) for kind in KINDS]
        rows.append(cells)
    header = ["words", "sentences"]
    header += [f"{metric.replace('_', ' ')}, `{kind}`" for metric in METRICS for kind in KINDS]
    # The flags of the training follow those of the model; the result's .json has them.
    model = result["flags"].split(" --optimizer")[0]
    note = (
        f"Mean ± sample standard deviation over {len(result['seeds'])} seeds. Trained on the {result['pairs']:,} pairs "
        f"with at most {result['longest']} words, {_updates(result['rows'])} updates: "
        f"`{model}`; `shape` with `--shape-offsets {result['offsets']}`. Length ratio: tokens of the "
        "translations, divided by those of the references. Perplexity: of the references, for each piece."
    )
    return table_with_note(header, rows, "lr" + "r" * len(METRICS) * len(KINDS), result, note)


def _updates(rows: list[dict[str, Any]]) -> str:
    numbers = {row["updates"] for row in rows}
    return f"{min(numbers):,}" if len(numbers) == 1 else f"{min(numbers):,} to {max(numbers):,}"


def _spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/long_sentences"), help="where to train")
    parser.add_argument("--longest", type=int, default=20, help="words of the longest sentence of training")
    parser.add_argument("--bounds", type=int, nargs="+", default=[10, 20, 25, 30], help="groups of the test")
    parser.add_argument("--test-sentences", type=int, default=1000, help="at most about so many short and so many long")
    parser.add_argument("--vocabulary", type=int, default=4000, help="pieces of the joint vocabulary")
    parser.add_argument("--offsets", type=int, default=50, help="K of SHAPE: few, because the trainings are short")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--gpu", action="store_true", help="train and translate on a GPU")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(args)
    result = {
        "machine": machine("cuda" if args.gpu else "cpu"),
        "seeds": args.seeds,
        "longest": args.longest,
        "pairs": len(read_lines(args.work / "train.en")),
        "offsets": args.offsets,
        "flags": shlex.join([*MODEL, *TRAINING]),
        "rows": rows,
    }
    print_and_write("long_sentences", result, markdown, args.output)


if __name__ == "__main__":
    main()

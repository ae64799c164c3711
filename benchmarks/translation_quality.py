"""Compare translations of weights in 8 bits and in bfloat16 with those of float32, on trained models and test sets.

    python -m benchmarks.translation_quality runs/quickstart-multi30k --output benchmarks/results/precision_quality

RUN is the folder of scripts/quickstart.sh.  The translations of several runs are compared as one test set: a difference
of a few tenths of BLEU is within the noise of one model and 1,000 sentences.  A processor without VNNI instructions
needs smaller whole numbers.  Any processor computes the same with them, so both kinds are compared.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from b2t_common import run_folder
from b2t_fairseq.kernels import quantized
from benchmarks.arguments import add_threads, benchmark_parser
from benchmarks.measuring import machine
from benchmarks.quickstart_runs import read_references
from benchmarks.translating import Translation, translate
from benchmarks.write_result import print_and_write, table_with_note

BASELINE = "float32"
SAMPLES = 1000


@contextmanager
def weights_up_to(largest: int) -> Iterator[None]:
    """Let 8-bit weights be whole numbers up to ``largest``, whatever the processor is."""
    before = quantized.largest_weight
    quantized.largest_weight = lambda: largest
    try:
        yield
    finally:
        quantized.largest_weight = before


def variants() -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the largest 8-bit weight, and the settings of ``b2t generate``, by name; the baseline is the first."""
    compared: dict[str, tuple[int, dict[str, Any]]] = {BASELINE: (127, {})}
    if quantized.largest_weight() == 127:
        compared["--int8, with VNNI: weights from -127 to 127"] = 127, {"int8": True}
    compared["--int8, without VNNI: weights from -63 to 63"] = 63, {"int8": True}
    compared["--bf16"] = 127, {"bf16": True}
    return compared


def compare(translations: Mapping[str, list[Translation]], references: list[str], language: str) -> list[dict]:
    """Return one row for each variant.

    Args:
        translations: of the test set, by variant, the baseline first.
        references: of the test set.
        language: of the references.
    """
    systems = [(name, [translation.text for translation in lines]) for name, lines in translations.items()]
    # its messages would go into the files of fairseq-generate, which are closed
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    test = PairedTest(systems, {"BLEU": BLEU(trg_lang=language)}, [references], test_type="bs", n_samples=SAMPLES)
    _, results = test()
    baseline, rows = translations[BASELINE], []
    for (name, lines), result in zip(translations.items(), results["BLEU"], strict=True):
        pairs = list(zip(baseline, lines, strict=True))
        rows.append(
            {
                "variant": name,
                "bleu": float(result.score),
                "difference": float(result.score - results["BLEU"][0].score),
                "p_value": None if name == BASELINE else float(result.p_value),
                "score_difference": statistics.mean(own.score - theirs.score for theirs, own in pairs),
                "changed": sum(own.text != theirs.text for theirs, own in pairs),
                "sentences": len(lines),
            }
        )
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        p_value = "" if row["p_value"] is None else f"{row['p_value']:.3f}"
        changed = f"{row['changed'] / row['sentences']:.1%}"
        bleu = [f"{row['bleu']:.2f}", f"{row['difference']:+.2f}", p_value]
        rows.append([row["variant"], *bleu, f"{row['score_difference']:+.4f}", changed])
    note = (
        f"{result['model']}, {result['rows'][0]['sentences']} sentences, beam {result['beam']}. p is of the paired "
        f"bootstrap with {SAMPLES} samples. The score of a translation is its mean log-probability in bits per piece, "
        "as fairseq-generate prints it."
    )
    header = ["weights", "BLEU", "difference", "p", "mean difference of scores", "sentences that change"]
    return table_with_note(header, rows, "lrrrrr", result, note)


def parse_args() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("runs", type=Path, metavar="RUN", nargs="+", help="folder of scripts/quickstart.sh")
    parser.add_argument("--checkpoint", default=run_folder.AVERAGE, help="in that folder")
    parser.add_argument("--beam", type=int, default=5)
    add_threads(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    references = [read_references(run) for run in args.runs]
    flags = ["--beam", str(args.beam), "--cpu", "--gen-subset", "test", "--remove-bpe", "sentencepiece"]
    translations: dict[str, list[Translation]] = {name: [] for name in variants()}
    with tempfile.TemporaryDirectory() as folder:
        for run, lines in zip(args.runs, references, strict=True):
            for name, (largest, settings) in variants().items():
                with weights_up_to(largest):
                    _, found = translate(run / "data", run / args.checkpoint, Path(folder), flags, settings)
                translations[name] += [found[number] for number in range(len(lines))]
    result = {
        "machine": machine("cpu"),
        "model": ", ".join(f"{run.name}/{args.checkpoint}" for run in args.runs),
        "beam": args.beam,
        "rows": compare(translations, [line for lines in references for line in lines], "de"),
    }
    print_and_write("translation_quality", result, markdown, args.output)


if __name__ == "__main__":
    main()

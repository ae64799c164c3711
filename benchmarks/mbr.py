"""Minimum Bayes risk on a trained model and its test set: candidates by beam and by sampling, by chrF and by BLEU.

    python -m benchmarks.mbr runs/quickstart-multi30k --output benchmarks/results/mbr

RUN is the folder of scripts/quickstart.sh.  The candidates are kept in RUN/mbr, and a second call uses them again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from b2t_cli.mbr_decoding.candidates import read_candidates
from b2t_cli.mbr_decoding.utilities import of_sentences
from b2t_common import run_folder
from b2t_common.files import read_lines, replacing
from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
from benchmarks.write_result import print_and_write, table_with_note

KINDS = {
    "beam": ["--beam", "{}"],
    "sampling": ["--sampling", "--beam", "{}", "--seed", "1"],
    "sampling, top p 0.9": ["--sampling", "--sampling-topp", "0.9", "--beam", "{}", "--seed", "1"],
}
"""The flags of ``b2t generate`` for each kind of candidates; their number takes the place of ``{}``."""
UTILITIES = ("bleu", "chrf")


def generate(run: Path, name: str, number: int) -> Path:
    """Let ``b2t generate`` write candidates of the test set, unless it did before; return its output."""
    output = run / "mbr" / f"{re.sub('[^a-z0-9]+', '_', name)}.{number}.txt"
    if not output.exists():
        output.parent.mkdir(exist_ok=True)
        command = ["b2t", "generate", str(run / "data"), "--path", str(run / run_folder.AVERAGE)]
        command += ["--gen-subset", "test", "--remove-bpe", "sentencepiece"]
        command += ["--required-batch-size-multiple", "1", "--max-tokens", "4000"]
        command += ["--num-workers", "0", "--nbest", str(number), *(flag.format(number) for flag in KINDS[name])]
        print(" ".join(command), file=sys.stderr)
        with replacing(output) as (unfinished,), open(unfinished, "wb") as file:
            subprocess.run(command, stdout=file, check=True)
    return output


def row(kind: str, choice: str, lines: list[str], references: list[str]) -> dict[str, Any]:
    """Return what sacreBLEU says of a choice."""
    bleu, chrf = (metric.corpus_score(lines, [references]) for metric in (BLEU(), CHRF()))
    return {"candidates": kind, "choice": choice, "bleu": bleu.score, "chrf": chrf.score, "length_ratio": bleu.ratio}


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table with a note."""
    header = ["candidates", "choice", "BLEU", "chrF2", "length ratio"]
    rows = [
        [row["candidates"], row["choice"], f"{row['bleu']:.1f}", f"{row['chrf']:.1f}", f"{row['length_ratio']:.2f}"]
        for row in result["rows"]
    ]
    note = (
        f"{result['number']} candidates for each of {result['sentences']:,} sentences; the model has a BLEU of "
        f"{result['bleu']:.1f} by beam search with a beam of 5."
    )
    return table_with_note(header, rows, "llrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--number", type=int, default=16, help="of candidates for each sentence")
    parser.add_argument("--test-set", default="test_2016_flickr", help="its name in RUN/raw")
    args = parser.parse_args()
    source, reference = (args.run / "raw" / f"{args.test_set}.{language}" for language in ("en", "de"))
    references = read_lines(reference)
    workers = len(os.sched_getaffinity(0))
    rows = []
    for kind in KINDS:
        sentences = read_candidates([generate(args.run, kind, args.number)], [source, reference])
        rows.append(row(kind, "the first", [lines[0] for lines in sentences], references))
        for utility in UTILITIES:
            utilities = of_sentences(sentences, utility, workers)
            chosen = [lines[values.index(max(values))] for lines, values in zip(sentences, utilities, strict=True)]
            rows.append(row(kind, f"MBR, {utility}", chosen, references))
            print(rows[-1], file=sys.stderr)
    beam5 = BLEU().corpus_score(read_lines(args.run / "hypotheses.de"), [references]).score
    result = {"machine": machine("cpu"), "number": args.number, "sentences": len(references), "bleu": beam5}
    print_and_write("mbr", {**result, "rows": rows}, markdown, args.output)


if __name__ == "__main__":
    main()

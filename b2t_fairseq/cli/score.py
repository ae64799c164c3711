"""``b2t score``: sacreBLEU and chrF of what ``fairseq-generate`` printed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..errors import InputError


def main(argv: list[str]) -> None:
    """Put translations back into the order of the text, check that none is missing, and score them."""
    parser = argparse.ArgumentParser(prog="b2t score", description=main.__doc__)
    parser.add_argument("generated", type=Path, help="output of fairseq-generate")
    parser.add_argument("--reference", type=Path, required=True, help="reference text, detokenized")
    parser.add_argument("--output", type=Path, help="file to write the translations to, one a line")
    args = parser.parse_args(argv)
    references = read_lines(args.reference)
    hypotheses = read_generated(args.generated, len(references))
    if args.output:
        unfinished = args.output.with_name(f"{args.output.name}.tmp{os.getpid()}")
        unfinished.write_text("".join(f"{line}\n" for line in hypotheses), encoding="utf-8", newline="\n")
        unfinished.replace(args.output)
    for line in score(hypotheses, references):
        print(line)


def read_lines(path: Path) -> list[str]:
    """Return a file's lines; only LF ends a line, other Unicode line separators are text.

    Raises:
        InputError: the file is empty or not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}); convert it first, for instance with iconv") from None
    if not text:
        raise InputError(f"{path} is empty")
    return text.removesuffix("\n").split("\n")


def read_generated(path: Path, expected: int) -> list[str]:
    """Return the best translation of each of ``expected`` sentences from fairseq's D- lines, in corpus order.

    Raises:
        InputError: translations are missing or there are too many.
    """
    best: dict[int, str] = {}
    for line in read_lines(path):
        if line.startswith("D-"):
            identifier, _, text = line.split("\t", 2)
            best.setdefault(int(identifier[2:]), text)
    missing = [str(i) for i in range(expected) if i not in best]
    if missing or len(best) != expected:
        raise InputError(
            f"{path} has {len(best)} translations for {expected} references"
            + (f"; missing sentences: {', '.join(missing[:10])}" if missing else "")
            + "; generate with --required-batch-size-multiple 1 and without --skip-invalid-size-inputs-valid-test, "
            "or fairseq leaves sentences out"
        )
    return [best[i] for i in range(expected)]


def score(hypotheses: list[str], references: list[str]) -> list[str]:
    """Return one line per metric, BLEU and chrF, each with its sacreBLEU signature."""
    from sacrebleu.metrics import BLEU, CHRF

    lines = []
    for metric in (BLEU(), CHRF()):
        result = metric.corpus_score(hypotheses, [references])
        lines.append(f"{result.name}|{metric.get_signature()} = {result.format(score_only=True, width=2)}")
    return lines

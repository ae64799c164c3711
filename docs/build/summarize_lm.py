#!/usr/bin/env python3
"""Print, as Markdown, the perplexities of a language model that scripts/train.sh trained, by fairseq-eval-lm.

python docs/build/summarize_lm.py RUN TEXT.en [TEXT.en ...] [--note TEXT] > docs/results/NAME.md

On the machine that trained it.  The texts are those that fairseq-preprocess got as --testpref, in that order, before
they were cut into pieces; each is evaluated line by line.  The perplexity per word is that of the whole text, ends of
lines counted as words.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import machine  # noqa: E402
from fairseq import options  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from fairseq_cli import eval_lm  # noqa: E402

from b2t_cli.runs import run as reporting  # noqa: E402
from b2t_common.files import read_lines  # noqa: E402


@dataclass(frozen=True)
class Score:
    """What a model says of a text.

    Attributes:
        bits: of all pieces and ends of lines together.
        pieces: their number.
        words: number of words and ends of lines.
    """

    bits: float
    pieces: int
    words: int

    def __add__(self, other: Score) -> Score:
        return Score(self.bits + other.bits, self.pieces + other.pieces, self.words + other.words)

    def per_piece(self) -> float:
        return 2 ** (self.bits / self.pieces)

    def per_word(self) -> float:
        return 2 ** (self.bits / self.words)


def evaluate(run: Path, subset: str, text: Path) -> Score:
    """Return what fairseq-eval-lm finds in one of the test sets.

    Raises:
        ValueError: it evaluated another number of lines than the text has.
    """
    data = (run / "data.txt").read_text().strip()
    checkpoint = run / "checkpoint_last.pt"
    argv = [data, "--user-dir", str(ROOT / "b2t_fairseq"), "--path", str(checkpoint), "--gen-subset", subset]
    argv += ["--sample-break-mode", "eos", "--max-tokens", "4096"]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_eval_lm_parser(), argv))
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    eval_lm.logger.addHandler(handler)
    try:
        loss = float(eval_lm.main(cfg)["loss"])
    finally:
        eval_lm.logger.removeHandler(handler)
    said = "\n".join(messages)
    evaluated, examples = (
        int(re.search(pattern, said)[1].replace(",", ""))
        for pattern in (r"Evaluated ([\d,]+) tokens", r"([\d,]+) examples")
    )
    lines = read_lines(text)
    if examples != len(lines):
        raise ValueError(f"{data} has {examples} lines as {subset}, but {text} has {len(lines)}")
    return Score(loss * evaluated, evaluated, sum(len(line.split()) + 1 for line in lines))


def summary(run: Path, texts: list[Path], note: str) -> str:
    """Return the table of perplexities and, below it, the model and the time that it took."""
    scores = [evaluate(run, f"test{number or ''}", text) for number, text in enumerate(texts)]
    columns = [*scores, sum(scores[1:], scores[0])]
    names = [*(text.stem.removeprefix("test.") for text in texts), "all"]
    lines = [f"| perplexity | {' | '.join(names)} |", f"| --- |{' --: |' * len(names)}"]
    for unit, method in (("word", Score.per_word), ("piece", Score.per_piece)):
        lines.append(f"| per {unit} | {' | '.join(f'{method(score):.1f}' for score in columns)} |")
    log = (run / "train.log").read_text(encoding="utf-8")
    (trained,) = reporting.read_all([run])
    size = re.search(r'update_size="(\d+)"', (run / "settings.sh").read_text(encoding="utf-8"))
    model = re.search(r"(--residual \S+ --layer-sharing \S+); .*?; ([\d,]+) parameters", log)
    text = (
        f"`{model[1]}`, {model[2]} parameters, {trained.updates():,} updates of {int(size[1]):,} pieces in "
        f"{trained.training_seconds() / 60:.0f} minutes on {machine.cores()}{note and f'; {note}'}. "
        f"{columns[-1].words:,} words and ends of lines, {columns[-1].pieces:,} pieces."
    )
    return "\n".join([*lines, "", text])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--note", default="", help="what else the machine was doing, say")
    args = parser.parse_args()
    print(summary(args.run, args.texts, args.note))


if __name__ == "__main__":
    main()

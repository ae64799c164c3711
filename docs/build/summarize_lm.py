"""Print, as Markdown, the perplexities of a language model that scripts/train.sh trained.

python -m docs.build.summarize_lm RUN TEXT.en [TEXT.en ...] [--note TEXT] > docs/results/NAME.md

Call it on the machine that trained the run.  The texts are those that fairseq-preprocess got as --testpref, in the same
order, before they were split into pieces.  fairseq-eval-lm evaluates each of them line by line.  The perplexity per
word is that of the whole text, where every end of a line counts as a word.
"""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import eval_lm

from b2t_cli.path import with_plugin
from b2t_cli.runs.noted import data_folder, update_size
from b2t_cli.runs.run import read_all
from b2t_cli.tables import markdown_table
from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import read_lines
from docs.build.summarize_run import duration, summary_parser


@dataclass(frozen=True)
class Score:
    """The score of a text.

    Attributes:
        bits: the sum over all pieces and ends of lines.
        pieces: number of pieces and ends of lines.
        words: number of words and ends of lines.
    """

    bits: float
    pieces: int
    words: int

    def __add__(self, other: Score) -> Score:
        return Score(self.bits + other.bits, self.pieces + other.pieces, self.words + other.words)

    def per_piece(self) -> float:
        """Return the perplexity per piece."""
        return 2 ** (self.bits / self.pieces)

    def per_word(self) -> float:
        """Return the perplexity per word."""
        return 2 ** (self.bits / self.words)


def evaluate(run: Path, subset: str, text: Path) -> Score:
    """Evaluate a model with fairseq-eval-lm on one of its test sets.

    Args:
        run: the run's folder.
        subset: fairseq's name of the test set: test, test1, ...
        text: the text of the test set.

    Raises:
        InputError: the test set and the text have different numbers of lines.
    """
    data, checkpoint = str(data_folder(run)), run / run_folder.LAST_CHECKPOINT
    argv = with_plugin([data, "--path", str(checkpoint), "--gen-subset", subset])
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
    log = "\n".join(messages)
    pieces, lines = (_number(pattern, log) for pattern in (r"Evaluated ([\d,]+) tokens", r"([\d,]+) examples"))
    expected = read_lines(text)
    if lines != len(expected):
        raise InputError(f"{data} has {lines} lines as {subset}, but {text} has {len(expected)}")
    return Score(loss * pieces, pieces, sum(len(line.split()) + 1 for line in expected))


def summary(folder: Path, texts: list[Path], note: str) -> str:
    """Return the table of perplexities and, below it, a sentence about the model and the training.

    Args:
        folder: the run's folder.
        texts: the texts of the test sets.
        note: what else the machine was doing; may be empty.

    Raises:
        InputError: the run has no log, or a text does not belong to its test set.
    """
    (run,) = read_all([folder])
    scores = [evaluate(folder, f"test{number or ''}", text) for number, text in enumerate(texts)]
    total = sum(scores[1:], scores[0])
    header = ["perplexity", *(text.stem.removeprefix("test.") for text in texts), "all"]
    rows = [
        [f"per {unit}", *(f"{perplexity(score):.1f}" for score in [*scores, total])]
        for unit, perplexity in (("word", Score.per_word), ("piece", Score.per_piece))
    ]
    about = (
        f"`--residual {run.model.scheme} --layer-sharing {run.model.sharing}`, {run.model.parameters:,} parameters, "
        f"{run.updates():,} updates of {update_size(folder):,} pieces in {duration(run, note)}. "
        f"{total.words:,} words and ends of lines, {total.pieces:,} pieces."
    )
    return f"{markdown_table(header, rows, 'l' + 'r' * (len(header) - 1))}\n\n{about}"


def _number(pattern: str, text: str) -> int:
    return int(re.search(pattern, text)[1].replace(",", ""))


def main() -> None:
    parser = summary_parser(__doc__)
    parser.add_argument("texts", type=Path, nargs="+", metavar="TEXT", help="text of a test set")
    args = parser.parse_args()
    try:
        print(summary(args.run, args.texts, args.note))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

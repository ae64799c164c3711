#!/usr/bin/env python3
"""Train a joint SentencePiece model, or encode a file with one; every output is complete or absent.

spm.py train MODEL_PREFIX --vocab-size N [--model-type bpe] [--max-lines N] [--tag TAG] FILE...
spm.py encode MODEL INPUT OUTPUT
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import streams

from b2t_common import programs
from b2t_common.files import decode_line

# SentencePiece keeps its training text in memory: two million lines of 25 words take less than 1.8 GB
MAX_LINES = 2_000_000
FAIRSEQ_SPECIAL_SYMBOLS = 4


def sample(files: list[Path], max_lines: int) -> Iterator[str]:
    """Yield the lines of all files; if there are more than ``max_lines``, yield that many at equal distances.

    Raises:
        InputError: a line is not UTF-8.
    """
    total = sum(len(block[0]) for file in files for block in streams.blocks(file))
    take = min(max_lines, total)
    number = 0
    for file in files:
        line_number = 0
        for (lines,) in streams.blocks(file):
            for line in lines:
                line_number += 1
                number += 1
                if number * take // total > (number - 1) * take // total:
                    yield decode_line(line, file, line_number)


def train(
    prefix: Path,
    files: list[Path],
    vocab_size: int,
    model_type: str,
    max_lines: int = MAX_LINES,
    tags: Sequence[str] = (),
) -> None:
    """Train one model on all files; write ``PREFIX.model``, ``PREFIX.vocab`` and, for fairseq, ``PREFIX.dict.txt``.

    Each of the ``tags``, such as ``<BT>``, is one piece wherever it stands.

    The same text gives the same model, independent of the files' names and of the number of cores.

    Raises:
        InputError: a file is not UTF-8.
        RuntimeError: SentencePiece fails, for instance because the text is too small for ``vocab_size`` pieces.
    """
    import sentencepiece

    # written to memory, because SentencePiece would write the names of its files into the model
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sample(files, max_lines),
        model_writer=model,
        vocab_size=vocab_size,
        model_type=model_type,
        character_coverage=1.0,
        user_defined_symbols=list(tags),
        num_threads=len(os.sched_getaffinity(0)),
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocabulary = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    special = sum(processor.is_control(i) or processor.is_unknown(i) for i in range(len(vocabulary)))
    outputs = [Path(f"{prefix}.{suffix}") for suffix in ("model", "vocab", "dict.txt")]
    with streams.whole_files(*outputs) as (model_file, vocab_file, dictionary):
        model_file.write(model.getvalue())
        vocab_file.writelines(f"{piece}\t{score:g}\n".encode() for piece, score in vocabulary)
        # fairseq adds its own special symbols, and needs a count after each symbol
        dictionary.writelines(f"{piece} 1\n".encode() for piece, _ in vocabulary[special:])


_processor = None


def _load(model: str) -> None:
    global _processor
    import sentencepiece

    _processor = sentencepiece.SentencePieceProcessor(model_file=model)


def _pieces(block: list[str]) -> bytes:
    return "".join(" ".join(pieces) + "\n" for pieces in _processor.encode(block, out_type=str)).encode()


def encode(model: Path, source: Path, target: Path, workers: int | None = None) -> int:
    """Write the pieces of each line of ``source`` to ``target``, separated by blanks; return the number of lines.

    Raises:
        InputError: ``source`` is not UTF-8.
    """
    lines = 0
    with streams.whole_files(target) as (file,):
        for pieces in streams.parallel_map(_pieces, streams.text_blocks(source), workers, _load, (str(model),)):
            lines += pieces.count(b"\n")
            file.write(pieces)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    trainer = commands.add_parser("train")
    trainer.add_argument("prefix", type=Path)
    trainer.add_argument("files", type=Path, nargs="+")
    size = trainer.add_mutually_exclusive_group(required=True)
    size.add_argument("--vocab-size", type=int, help="number of pieces, including SentencePiece's three special ones")
    size.add_argument(
        "--dictionary-size", type=int, help="number of symbols in fairseq's dictionary, including its four special ones"
    )
    trainer.add_argument("--model-type", choices=("bpe", "unigram"), default="bpe")
    trainer.add_argument("--max-lines", type=int, default=MAX_LINES, help="train on so many lines of a longer text")
    trainer.add_argument(
        "--tag", action="append", default=[], help="a word that is one piece, such as <BT>; repeatable"
    )
    encoder = commands.add_parser("encode")
    encoder.add_argument("model", type=Path)
    encoder.add_argument("source", type=Path)
    encoder.add_argument("target", type=Path)
    encoder.add_argument("--workers", type=int, help="processes (default: one for each core)")
    args = parser.parse_args()
    if args.command == "train":
        size = args.vocab_size or args.dictionary_size - FAIRSEQ_SPECIAL_SYMBOLS + 3
        train(args.prefix, args.files, size, args.model_type, args.max_lines, args.tag)
    else:
        encode(args.model, args.source, args.target, args.workers)


if __name__ == "__main__":
    sys.exit(programs.run("spm.py", main, RuntimeError, ValueError))

#!/usr/bin/env python3
"""Train a joint SentencePiece model, or encode a file with one; every output is complete or absent.

spm.py train MODEL_PREFIX --vocab-size N [--model-type bpe] FILE...
spm.py encode MODEL INPUT OUTPUT
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def train(prefix: Path, files: list[Path], vocab_size: int, model_type: str) -> None:
    """Train one model on all files together and write ``PREFIX.model`` and ``PREFIX.vocab``.

    Raises:
        RuntimeError: from SentencePiece, for instance if the text is too small for ``vocab_size`` pieces.
    """
    import sentencepiece

    unfinished = prefix.with_name(f"{prefix.name}.tmp{os.getpid()}")
    sentencepiece.SentencePieceTrainer.train(
        input=[str(file) for file in files],
        model_prefix=str(unfinished),
        vocab_size=vocab_size,
        model_type=model_type,
        character_coverage=1.0,
        input_sentence_size=5_000_000,
        shuffle_input_sentence=True,
        num_threads=os.cpu_count() or 1,
        minloglevel=1,
    )
    for suffix in (".vocab", ".model"):
        Path(f"{unfinished}{suffix}").replace(f"{prefix}{suffix}")


def encode(model: Path, source: Path, target: Path) -> int:
    """Write the pieces of every line of ``source`` to ``target``, separated by blanks; return the number of lines."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    unfinished = target.with_name(f"{target.name}.tmp{os.getpid()}")
    lines = 0
    try:
        # newline="\n": other Unicode line separators are part of the text
        with (
            open(source, encoding="utf-8", newline="\n") as text,
            open(unfinished, "w", encoding="utf-8", newline="\n") as pieces,
        ):
            for line in text:
                pieces.write(" ".join(processor.encode(line.rstrip("\n"), out_type=str)) + "\n")
                lines += 1
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    trainer = commands.add_parser("train")
    trainer.add_argument("prefix", type=Path)
    trainer.add_argument("files", type=Path, nargs="+")
    trainer.add_argument("--vocab-size", type=int, required=True)
    trainer.add_argument("--model-type", choices=("bpe", "unigram"), default="bpe")
    encoder = commands.add_parser("encode")
    encoder.add_argument("model", type=Path)
    encoder.add_argument("source", type=Path)
    encoder.add_argument("target", type=Path)
    args = parser.parse_args()
    try:
        if args.command == "train":
            train(args.prefix, args.files, args.vocab_size, args.model_type)
        else:
            encode(args.model, args.source, args.target)
    except UnicodeDecodeError as error:
        sys.exit(f"error: {args.source} is not UTF-8 ({error}); convert it first, for instance with iconv")
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

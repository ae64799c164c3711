#!/usr/bin/env python3
"""Make Moses tokens and BPE (subword-nmt), as in the papers; every output is complete or absent.

moses_bpe.py tokenize LANGUAGE INPUT OUTPUT [--as-perl]
moses_bpe.py learn CODES --merges N FILE...      from tokenized files together
moses_bpe.py apply CODES INPUT OUTPUT            of a tokenized file
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from pathlib import Path

import streams

from b2t_cli.scoring.moses import PerlTokenizer
from b2t_common import programs
from b2t_common.errors import InputError

# BPE is learned from this many distinct words at most. Beyond twice as many, words seen once are dropped while
# counting, so that memory stays bounded.
MAX_WORDS = 1_500_000

_worker = None


def _load_tokenizer(language: str) -> None:
    global _worker
    from sacremoses import MosesTokenizer

    _worker = MosesTokenizer(language)


def _load_perl_tokenizer(language: str) -> None:
    global _worker
    _worker = PerlTokenizer(language)


def _load_codes(codes: str) -> None:
    global _worker
    from subword_nmt.apply_bpe import BPE

    with open(codes, encoding="utf-8") as file:
        try:
            _worker = BPE(file)
        except UnicodeDecodeError as error:
            raise InputError(f"{codes} is not a file of codes, which is UTF-8 text ({error.reason})") from None


def _tokenize(block: list[str]) -> bytes:
    # the settings of fairseq's --tokenizer moses, which later turns the tokens back into text
    lines = (_worker.tokenize(line, aggressive_dash_splits=True, return_str=True) for line in block)
    return "".join(f"{line}\n" for line in lines).encode()


def _tokenize_as_perl(block: list[str]) -> bytes:
    return "".join(f"{_worker(line)}\n" for line in block).encode()


def _apply(block: list[str]) -> bytes:
    return "".join(_worker.segment(line) + "\n" for line in block).encode()


def _count(block: list[str]) -> Counter:
    return Counter(word for line in block for word in line.split())


def convert(function, initializer, argument: str, source: Path, target: Path, workers: int | None) -> None:
    """Apply ``function`` to each block of lines of ``source``, and write the results to ``target``."""
    with streams.whole_files(target) as (file,):
        file.writelines(streams.parallel_map(function, streams.text_blocks(source), workers, initializer, (argument,)))


def learn(codes: Path, files: list[Path], merges: int, workers: int | None = None) -> None:
    """Learn ``merges`` merge operations on all files together and write them to ``codes``."""
    from subword_nmt.learn_bpe import learn_bpe

    counts: Counter = Counter()
    for file in files:
        for part in streams.parallel_map(_count, streams.text_blocks(file), workers):
            counts.update(part)
            if len(counts) > 2 * MAX_WORDS:
                counts = Counter({word: n for word, n in counts.items() if n > 1})
    frequent = sorted(counts.most_common(MAX_WORDS), key=lambda item: (-item[1], item[0]))
    learned = io.StringIO()
    learn_bpe([f"{word} {n}" for word, n in frequent], learned, merges, is_dict=True)
    with streams.whole_files(codes) as (file,):
        file.write(learned.getvalue().encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, first in (("tokenize", "language"), ("apply", "codes")):
        command = commands.add_parser(name)
        command.add_argument(first)
        command.add_argument("source", type=Path)
        command.add_argument("target", type=Path)
    exactly = "the tokens of Moses' own tokenizer.perl: words with dashes stay whole"
    commands.choices["tokenize"].add_argument("--as-perl", action="store_true", help=exactly)
    learner = commands.add_parser("learn")
    learner.add_argument("codes", type=Path)
    learner.add_argument("files", type=Path, nargs="+")
    learner.add_argument("--merges", type=int, required=True)
    for command in commands.choices.values():
        command.add_argument("--workers", type=int, help="processes (default: one for each core)")
    args = parser.parse_args()
    try:
        if args.command == "tokenize":
            kind = (_tokenize_as_perl, _load_perl_tokenizer) if args.as_perl else (_tokenize, _load_tokenizer)
            convert(*kind, args.language, args.source, args.target, args.workers)
        elif args.command == "learn":
            learn(args.codes, args.files, args.merges, args.workers)
        else:
            convert(_apply, _load_codes, args.codes, args.source, args.target, args.workers)
    except ImportError as error:
        raise InputError(f"{error}; install it: pip install sacremoses subword-nmt") from None


if __name__ == "__main__":
    sys.exit(programs.run("moses_bpe.py", main, ValueError))

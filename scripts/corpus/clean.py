#!/usr/bin/env python3
"""Clean parallel text: write the pairs that are suitable for training, and count the others by reason.

clean.py OUTPUT_PREFIX INPUT_PREFIX... [--max-words N] [--max-characters N] [--max-ratio R]

It reads PREFIX.en and PREFIX.de (or PREFIX.en.gz and PREFIX.de.gz), and writes OUTPUT_PREFIX.en, .de and .json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import streams

from b2t_common import programs
from b2t_common.errors import InputError

# characters that no text needs and that some tools read as the end of a line or of the file; tabs and line ends are not
# among them, because they are white space
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Limits:
    """The limits of a pair; the defaults are close to those of the papers' training text."""

    max_words: int = 80
    max_characters: int = 2000
    max_ratio: float = 9.0


def normalized(line: bytes) -> str:
    """Return a line in which each run of Unicode white space and control characters (also CR, U+2028) is one blank.

    Raises:
        UnicodeDecodeError: the line is not UTF-8.
    """
    text = line.decode("utf-8")
    if _CONTROL.search(text):
        text = _CONTROL.sub(" ", text)
    return " ".join(text.split())


def fault(source: str, target: str, limits: Limits) -> str | None:
    """Return the reason why a pair is removed, ``None`` if it is kept."""
    lengths = source.count(" ") + 1, target.count(" ") + 1
    if not source or not target:
        return "empty"
    if max(lengths) > limits.max_words or max(len(source), len(target)) > limits.max_characters:
        return "too long"
    if max(lengths) > limits.max_ratio * min(lengths):
        return "lengths too different"
    return None


def clean(block: list[list[bytes]], limits: Limits) -> tuple[bytes, bytes, Counter]:
    """Return the kept lines of both sides, and the numbers of pairs kept and removed for each reason."""
    sources, targets = [], []
    counts: Counter = Counter()
    for pair in zip(*block, strict=True):
        try:
            source, target = map(normalized, pair)
        except UnicodeDecodeError:
            counts["not UTF-8"] += 1
            continue
        reason = fault(source, target, limits)
        counts[reason or "kept"] += 1
        if reason is None:
            sources.append(f"{source}\n")
            targets.append(f"{target}\n")
    return "".join(sources).encode(), "".join(targets).encode(), counts


def sides(prefix: Path, languages: list[str]) -> list[Path]:
    """Return the files of the two sides.

    Raises:
        InputError: a side exists neither plain nor packed.
    """
    paths = []
    for language in languages:
        candidates = [Path(f"{prefix}.{language}"), Path(f"{prefix}.{language}.gz")]
        present = [path for path in candidates if path.is_file()]
        if not present:
            raise InputError(f"neither {candidates[0]} nor {candidates[1].name} exists")
        paths.append(present[0])
    return paths


def clean_corpora(
    output: Path, prefixes: list[Path], languages: list[str], limits: Limits, workers: int | None = None
) -> dict[str, dict[str, int]]:
    """Write the kept pairs of all corpora, in the order of the corpora; return the counts of each corpus.

    A corpus has its file's name there, or its whole path if another one has the same name.

    Raises:
        ValueError: the sides of a corpus have unequal numbers of lines, or no pair is kept.
        OSError: a file is missing or truncated, or cannot be written.
    """
    corpora: dict[str, Counter] = {}
    names = [prefix.name for prefix in prefixes]
    with streams.whole_files(*(Path(f"{output}.{language}") for language in languages)) as files:
        for prefix in prefixes:
            counts: Counter = Counter()
            work = streams.parallel_map(
                partial(clean, limits=limits), streams.blocks(*sides(prefix, languages)), workers
            )
            for *kept, block_counts in work:
                counts.update(block_counts)
                for file, lines in zip(files, kept, strict=True):
                    file.write(lines)
            if not counts["kept"]:
                raise ValueError(f"{prefix}: none of {counts.total()} pairs is suitable for training ({dict(counts)})")
            # a corpus that is given twice counts twice
            name = prefix.name if names.count(prefix.name) == 1 else str(prefix)
            corpora.setdefault(name, Counter()).update(counts)
    return {name: {"pairs": counts.total(), **dict(sorted(counts.items()))} for name, counts in corpora.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("inputs", type=Path, nargs="+")
    parser.add_argument("--languages", nargs=2, default=["en", "de"], metavar="LANG")
    parser.add_argument("--max-words", type=int, default=Limits.max_words, help="on either side")
    parser.add_argument("--max-characters", type=int, default=Limits.max_characters, help="on either side")
    parser.add_argument("--max-ratio", type=float, default=Limits.max_ratio, help="of the longer to the shorter side")
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    args = parser.parse_args()
    limits = Limits(args.max_words, args.max_characters, args.max_ratio)
    report = clean_corpora(args.output, args.inputs, args.languages, limits, args.workers)
    with streams.whole_files(Path(f"{args.output}.json")) as (file,):
        file.write(json.dumps(report, indent=2).encode() + b"\n")
    for name, counts in report.items():
        others = ", ".join(f"{key} {n:,}" for key, n in counts.items() if key not in ("pairs", "kept"))
        print(f"{name}: {counts['kept']:,} of {counts['pairs']:,} pairs kept{f' ({others})' if others else ''}")


if __name__ == "__main__":
    sys.exit(programs.run("clean.py", main, ValueError, EOFError))

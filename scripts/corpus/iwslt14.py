#!/usr/bin/env python3
"""Make training, validation and test text of IWSLT14 German-English, in the steps of fairseq's prepare-iwslt14.sh.

    iwslt14.py extract ARCHIVE FOLDER --lines TABLE   FOLDER/train.de, .en: training text without the tags around it;
                                                      FOLDER/iwslt14.de, .en: the five test sets, one after another
    iwslt14.py split FOLDER OUTPUT --lines TABLE      of these texts and of their Moses tokens in FOLDER/tokens:
                                                      OUTPUT/clean/{train,valid}, OUTPUT/test/iwslt14: as they were;
                                                      OUTPUT/tokens/{train,valid,iwslt14}: tokens in lower case

TABLE has the numbers of lines that are expected, as scripts/corpus/iwslt14_lines.tsv has them.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import streams
from unpack import UNUSABLE, UnusableArchive, copy_members

from b2t_common import programs
from b2t_common.errors import InputError
from b2t_common.files import not_utf8

PAIR, LANGUAGES = "de-en", ("de", "en")
TRAINING = "train.tags"
TEST_SETS = (
    "IWSLT14.TED.dev2010",
    "IWSLT14.TEDX.dev2012",
    "IWSLT14.TED.tst2010",
    "IWSLT14.TED.tst2011",
    "IWSLT14.TED.tst2012",
)
TEST = "iwslt14"
"""The name of the test text: all sets together."""

# Moses' clean-corpus-n.perl -ratio 1.5 ... 1 175
MAX_TOKENS, MAX_RATIO, MAX_TOKEN_CHARACTERS = 175, 1.5, 1000
VALIDATION_DISTANCE = 23  # every so many pairs one is for validation

_LEFT_OUT = ("<url>", "<talkid>", "<keywords>")
_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT = re.compile(r'<seg id="[0-9]*">\s*|\s*</seg>\s*')


def training_text(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of ``train.tags`` that are text: what was said, and titles and descriptions of the talks."""
    for line in lines:
        if not any(tag in line for tag in _LEFT_OUT):
            yield " ".join(_TAGS.sub("", line).split())


def segments(lines: Iterable[str]) -> Iterator[str]:
    """Yield the segments of a test set's XML file, with straight apostrophes."""
    for line in lines:
        if "<seg id" in line:
            yield " ".join(_SEGMENT.sub("", line).replace("\u2019", "'").split())


def read_table(path: Path) -> dict[str, int]:
    """Return the expected number of lines of each text.

    Raises:
        InputError: a text is missing in the table, or its number is not one.
    """
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    table = {}
    for row in rows:
        if len(row) != 2 or not row[1].isdecimal():
            raise InputError(f"--lines {path}: {' '.join(row)} is not a name and a number, separated by a tab")
        table[row[0]] = int(row[1])
    missing = [name for name in (TRAINING, *TEST_SETS, "train", "valid", TEST) if name not in table]
    if missing:
        raise InputError(f"--lines {path} has no number for {', '.join(missing)}")
    return table


def extract(archive: Path, folder: Path, expected: dict[str, int]) -> dict[str, int]:
    """Write the text of the archive into a folder, and return the number of lines of each part.

    Raises:
        UnusableArchive: the archive is damaged, it is of another language pair, a file is missing in it or is not
            UTF-8, or a text has another number of lines than expected.
        OSError: the archive is missing, or the disk is full.
    """
    counts: dict[str, int] = {}
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [folder / f"{name}.{language}" for name in ("train", TEST) for language in LANGUAGES]
    with tempfile.TemporaryDirectory(dir=folder) as temporary, streams.whole_files(*outputs) as files:
        members = _copied(archive, Path(temporary))
        written = dict(zip(outputs, files, strict=True))
        for name in (TRAINING, *TEST_SETS):
            target, keep = ("train", training_text) if name == TRAINING else (TEST, segments)
            for language in LANGUAGES:
                member = _member(name, language)
                lines = [f"{line}\n".encode() for line in keep(_decoded(members[member], archive, member))]
                written[folder / f"{target}.{language}"].writelines(lines)
                if len(lines) != expected[name]:
                    raise UnusableArchive(
                        f"{archive}: {member} has {len(lines):,} lines of text, not {expected[name]:,}: "
                        "this is not the published text"
                    )
            counts[name] = expected[name]
    return counts


def _member(name: str, language: str) -> str:
    return f"{PAIR}/{name}.{PAIR}.{language}" + ("" if name == TRAINING else ".xml")


def _copied(archive: Path, folder: Path) -> dict[str, Path]:
    names = [_member(name, language) for name in (TRAINING, *TEST_SETS) for language in LANGUAGES]
    paths = {name: folder / Path(name).name for name in names}
    with ExitStack() as stack:
        copy_members(archive, {name: stack.enter_context(open(path, "wb")) for name, path in paths.items()})
    return paths


def _decoded(path: Path, archive: Path, member: str) -> Iterator[str]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UnusableArchive(not_utf8(f"{archive}: {member}", number, error)) from None


def is_kept(source: str, target: str) -> bool:
    """Return whether a pair of tokenized lines is short enough and its sides are of similar length."""
    lengths = [len(side.split()) for side in (source, target)]
    if not min(lengths) or max(lengths) > MAX_TOKENS or max(lengths) / min(lengths) > MAX_RATIO:
        return False
    return all(len(token) <= MAX_TOKEN_CHARACTERS for side in (source, target) for token in side.split())


def split(folder: Path, output: Path, expected: dict[str, int]) -> dict[str, int]:
    """Write training, validation and test text, and their tokens in lower case; return the numbers of pairs.

    Raises:
        InputError: a text has another number of pairs than expected.
        ValueError: a text and its tokens have different numbers of lines.
    """
    sources = {name: _sides(folder / name) + _sides(folder / "tokens" / name) for name in ("train", TEST)}
    targets: dict[str, list[Path]] = {}
    for name, place in (("train", "clean"), ("valid", "clean"), (TEST, "test")):
        (output / place).mkdir(exist_ok=True)
        targets[name] = _sides(output / place / name) + _sides(output / "tokens" / name)
    (output / "tokens").mkdir(exist_ok=True)
    counts = dict.fromkeys(targets, 0)
    with streams.whole_files(*(path for paths in targets.values() for path in paths)) as opened:
        files = {name: opened[4 * number : 4 * number + 4] for number, name in enumerate(targets)}
        for name, row in _assigned(sources):
            counts[name] += 1
            for file, line in zip(files[name], row, strict=True):
                file.write(f"{line}\n".encode())
        _check(counts, expected)
    return counts


def _sides(prefix: Path) -> list[Path]:
    return [Path(f"{prefix}.{language}") for language in LANGUAGES]


def _assigned(sources: dict[str, list[Path]]) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Yield the name of the text to which each kept pair belongs, and its text and tokens of both languages."""
    kept = 0
    for name, paths in sources.items():
        for block in streams.blocks(*paths):
            for lines in zip(*block, strict=True):
                source, target, *tokens = (line.decode("utf-8") for line in lines)
                row = (source, target, *(" ".join(line.split()).lower() for line in tokens))
                if name == TEST:
                    yield TEST, row
                elif is_kept(*tokens):
                    kept += 1
                    yield "train" if kept % VALIDATION_DISTANCE else "valid", row


def _check(counts: dict[str, int], expected: dict[str, int]) -> None:
    wrong = [
        f"{name} has {count:,} pairs, not {expected[name]:,}"
        for name, count in counts.items()
        if count != expected[name]
    ]
    if wrong:
        raise InputError(f"{'; '.join(wrong)}: this is not the split of the papers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    extractor = commands.add_parser("extract")
    extractor.add_argument("archive", type=Path)
    extractor.add_argument("folder", type=Path)
    splitter = commands.add_parser("split")
    splitter.add_argument("folder", type=Path)
    splitter.add_argument("output", type=Path)
    for command in commands.choices.values():
        command.add_argument("--lines", type=Path, required=True, help="table of the numbers of lines")
    args = parser.parse_args()
    expected = read_table(args.lines)
    try:
        if args.command == "extract":
            counts = extract(args.archive, args.folder, expected)
        else:
            counts = split(args.folder, args.output, expected)
    except UnusableArchive as error:
        print(f"iwslt14.py: error: {error}", file=sys.stderr)
        return UNUSABLE
    print("\n".join(f"{name}: {count:,} pairs, as published" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(programs.run("iwslt14.py", main, ValueError))

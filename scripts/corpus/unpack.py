#!/usr/bin/env python3
"""Extract the two sides of a parallel text from a .tgz archive, and check that they are complete.

unpack.py ARCHIVE MEMBER OUTPUT_PREFIX [--pairs N]

MEMBER.en and MEMBER.de of the archive become OUTPUT_PREFIX.en and .de, byte by byte.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import streams

from b2t_common import programs

UNUSABLE = 3  # exit status: the archive is damaged; the disk is not the cause


class UnusableArchive(ValueError):
    """The archive is damaged, or it is another archive than expected."""


def unpack(archive: Path, member: str, output: Path, languages: list[str], pairs: int | None = None) -> int:
    """Write both sides and return the number of pairs.

    Args:
        archive: a tar file packed with gzip.
        member: path inside the archive, without the language.
        output: path of the result, without the language.
        languages: endings of the two sides.
        pairs: the expected number of pairs, ``None`` if it is not known.

    Raises:
        UnusableArchive: it is truncated or damaged, a side is missing, or the numbers of lines are wrong.
        OSError: the archive is missing, or the disk is full.
    """
    outputs = [Path(f"{output}.{language}") for language in languages]
    with streams.whole_files(*outputs) as files:
        wanted = {f"{member}.{language}": file for language, file in zip(languages, files, strict=True)}
        counts = copy_members(archive, wanted)
        first, second = (counts[name] for name in wanted)
        if first != second:
            raise UnusableArchive(
                f"{archive}: {member} has {first} and {second} lines: the sides do not belong together"
            )
        if pairs is not None and first != pairs:
            raise UnusableArchive(f"{archive}: {member} has {first} pairs, not {pairs}: not the published text")
    return first


def copy_members(archive: Path, wanted: Mapping[str, BinaryIO]) -> dict[str, int]:
    """Copy files of an archive, byte by byte; return the number of lines of each.

    Args:
        archive: a tar file packed with gzip.
        wanted: for each path inside the archive the file to write.

    Raises:
        UnusableArchive: it is truncated or damaged, or a file is missing; the message says which folders there are.
        OSError: the archive is missing, or the disk is full.
    """
    counts: dict[str, int] = {}
    folders = set()
    try:
        # through gzip, because tarfile's own reader of packed files does not verify their checksum
        with gzip.open(archive) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as tar:
                for info in tar:
                    name = info.name.removeprefix("./")
                    if info.isfile():
                        folders.add(str(Path(name).parent))
                    if info.isfile() and name in wanted:
                        counts[name] = _copy(tar.extractfile(info), wanted[name])
            while unpacked.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnusableArchive(f"{archive} is cut short or damaged ({error})") from error
    missing = [name for name in wanted if name not in counts]
    if missing:
        present = f"; it has files in {', '.join(sorted(folders))}" if folders else "; it has no file"
        raise UnusableArchive(f"{archive} does not hold {' and '.join(missing)}{present}")
    return counts


def _copy(source, target) -> int:
    lines, last = 0, b"\n"
    while chunk := source.read(1 << 20):
        target.write(chunk)
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    return lines + (last != b"\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("member")
    parser.add_argument("output", type=Path)
    parser.add_argument("--languages", nargs=2, default=["en", "de"], metavar="LANG")
    parser.add_argument("--pairs", type=int, help="the expected number of pairs")
    args = parser.parse_args()
    try:
        pairs = unpack(args.archive, args.member, args.output, args.languages, args.pairs)
    except UnusableArchive as error:
        print(f"unpack.py: error: {error}", file=sys.stderr)
        return UNUSABLE
    print(f"{args.archive.name}: {pairs:,} pairs{'' if args.pairs is None else ', as published'}")
    return 0


if __name__ == "__main__":
    sys.exit(programs.run("unpack.py", main))

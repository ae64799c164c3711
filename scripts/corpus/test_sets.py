#!/usr/bin/env python3
"""Write the sources and references of newstest2010 to 2016, taken from sacreBLEU, one file for each side.

    test_sets.py FOLDER

sacreBLEU downloads them to its cache: $SACREBLEU, or ~/.sacrebleu.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streams

from b2t_cli.scoring.newstest import NEWSTESTS, references, sources
from b2t_common import programs


def write(folder: Path, language_pair: str = "en-de") -> dict[str, int]:
    """Write FOLDER/newstest2010.en, .de, ...; return the number of segments of each set.

    Raises:
        InputError: sacreBLEU can get a set neither from its cache nor from the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name in NEWSTESTS:
        paths = [folder / f"{name}.{language}" for language in language_pair.split("-")]
        text = sources(name, language_pair), references(name, language_pair)
        with streams.whole_files(*paths) as files:
            for file, lines in zip(files, text, strict=True):
                file.writelines(f"{line}\n".encode() for line in lines)
        counts[name] = len(text[0])
    return counts


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, count in write(Path(sys.argv[1])).items():
        print(f"{name}: {count:,} segments")


if __name__ == "__main__":
    sys.exit(programs.run("test_sets.py", main))

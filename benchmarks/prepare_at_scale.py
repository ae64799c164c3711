"""Measure time and memory of scripts/prepare_wmt14_en_de.sh on synthetic archives of WMT14's names and sizes.

    python -m benchmarks.prepare_at_scale FOLDER [--fraction 1.0] [--output benchmarks/results/prepare_at_scale]

The words of two made-up languages are drawn by Zipf's law, and some words are new, so that text and vocabulary grow as
those of real text do.  Only sacreBLEU's cache must be there.  FOLDER gets about 12 GB, which may be deleted afterwards.
"""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np

from b2t_cli.machine import cores
from b2t_cli.tables import markdown_table
from benchmarks.arguments import benchmark_parser
from benchmarks.write_result import print_and_write

ROOT = Path(__file__).resolve().parent.parent
PREPARE = ROOT / "scripts/prepare_wmt14_en_de.sh"
STAGES = ("download", "clean", "subwords", "binarize", "write_manifest")
SYLLABLES = {
    "en": "the er in to re con ing sta men ver ate pro ous ble com al tion ly un de for sion able est".split(),  # noqa: SIM905
    "de": "der ge ver en un be schaft heit ung aus ein lich keit ster mit nach vor ü ö ä ß sch ten ler".split(),  # noqa: SIM905
}
WORD_TYPES = 400_000
MEAN_WORDS = 25  # of a sentence
POOL = 200_000  # half sentences; every sentence is made of two of them


def words(language: str, rng: np.random.Generator) -> np.ndarray:
    """Return the words of a made-up language; the first ones are the most frequent and the shortest."""
    syllables = np.array(SYLLABLES[language])
    lengths = 1 + (np.log2(np.arange(WORD_TYPES) + 2) / 4).astype(int)
    return np.array(["".join(rng.choice(syllables, n)) for n in lengths], dtype=object)


def halves(vocabulary: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Return half sentences of the given lengths, their words drawn by Zipf's law."""
    ranks = np.minimum(rng.zipf(1.2, lengths.sum()) - 1, WORD_TYPES - 1)
    return [" ".join(line) for line in np.split(vocabulary[ranks], np.cumsum(lengths)[:-1])]


def write_text(path: Path, pool: list[str], vocabulary: np.ndarray, choices: np.ndarray, seed: int) -> None:
    """Write one line for each row of ``choices``, (lines, 2), the numbers of two half sentences.

    Every third line, drawn at random, also gets a word that is new: two words of the vocabulary put together.
    """
    rng = np.random.default_rng(seed)
    with open(path, "w", encoding="utf-8") as file:
        for block in np.array_split(choices, len(choices) // 10_000 + 1):
            parts = vocabulary[rng.integers(WORD_TYPES, size=(len(block), 2))]
            new = rng.random(len(block)) < 1 / 3
            file.writelines(
                f"{pool[first]} {pool[second]}{f' {a}{b}' if is_new else ''} .\n"
                for (first, second), (a, b), is_new in zip(block, parts, new, strict=True)
            )


def write_archives(folder: Path, table: Path, fraction: float) -> int:
    """Write synthetic archives into a folder and the table that describes them; return the number of pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    lengths = 1 + rng.poisson(rng.gamma(3, MEAN_WORDS / 6, POOL))
    vocabularies = {language: words(language, rng) for language in SYLLABLES}
    pools = {language: halves(vocabulary, lengths, rng) for language, vocabulary in vocabularies.items()}
    total = 0
    with open(table, "w") as described:
        for seed, (name, url, member, pairs) in enumerate(training_archives()):
            count = int(pairs * fraction)
            total += count
            described.write("\t".join([name, url, member, str(count), str(count // 2000 + 1), "-"]) + "\n")
            choices = rng.integers(POOL, size=(count, 2))
            archive = folder / url.rsplit("/", 1)[1]
            with gzip.open(archive, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
                for language, pool in pools.items():
                    text = folder / f"text.{language}"
                    write_text(text, pool, vocabularies[language], choices, seed)
                    tar.add(text, f"{member}.{language}")
                    text.unlink()
    return total


def training_archives() -> list[tuple[str, str, str, int]]:
    """Return name, URL, member and number of pairs of WMT14's training archives whose number of pairs is known."""
    table = (ROOT / "scripts/corpus/wmt14_archives.tsv").read_text()
    rows = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    return [(name, url, member, int(pairs)) for name, url, member, pairs, *_ in rows if pairs != "-"]


class Memory(threading.Thread):
    """Measures the peak memory, in bytes, of all processes of a session together."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.peak = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            self.peak = max(self.peak, sum(map(self._memory, os.listdir("/proc"))))

    def _memory(self, process: str) -> int:
        try:
            if not process.isdigit() or os.getsid(int(process)) != self.session:
                return 0
            # Pss divides every shared page among the processes that use it, so the sum counts it once
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measure(out: Path, number: int, arguments: list[str]) -> dict[str, float]:
    """Run one stage; return its seconds, its processor seconds on all cores together, and its peak memory in bytes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    stage = [*arguments, "--stop-stage", str(number)]
    with open(out.parent / f"stage{number}.log", "w") as log:
        process = subprocess.Popen(["bash", str(PREPARE), *stage], stdout=log, stderr=log, start_new_session=True)
        memory = Memory(process.pid)
        memory.start()
        if process.wait():
            sys.exit(f"stage {number} failed, see {log.name}")
    memory.ended.set()
    memory.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = int((out / f".done/{number}-{STAGES[number - 1]}").read_text())
    return {"seconds": seconds, "processor_seconds": processors, "peak_bytes": memory.peak}


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    millions_of_pairs = result["pairs"] / 1e6
    rows = []
    for name, stage in result["stages"].items():
        processor_seconds = f"{stage['processor_seconds'] / millions_of_pairs:.0f}"
        rows.append([name, f"{stage['seconds'] / 60:.1f}", processor_seconds, f"{stage['peak_bytes'] / 1e9:.2f} GB"])
    header = ["stage", "minutes", "processor seconds for a million pairs", "peak memory"]
    machine = "; ".join(filter(None, (result["machine"], result["note"])))
    note = (
        f"{result['pairs']:,} synthetic pairs in archives with WMT14's names and sizes; {machine}. "
        f"Processor seconds are those of all cores together. Command: `{result['command']}`"
    )
    return f"{markdown_table(header, rows, 'lrrr')}\n\n{note}\n"


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--fraction", type=float, default=1.0, help="of WMT14's numbers of pairs")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    args = parser.parse_args()
    folder = args.folder.resolve()
    out, table = folder / "out", folder / "archives.tsv"
    if out.exists():
        sys.exit(f"error: {out} is from an earlier call; delete it, or give another folder")
    pairs = write_archives(folder / "archives", table, args.fraction)
    arguments = ["--out", str(out), "--archives", str(folder / "archives"), "--table", str(table)]
    stages = {name: measure(out, number, arguments) for number, name in enumerate(STAGES, start=1)}
    # without the path of the folder, which means nothing elsewhere
    command = "python -m benchmarks.prepare_at_scale FOLDER"
    command += f" --fraction {args.fraction}" if args.fraction != 1 else ""
    result = {"command": command, "pairs": pairs, "machine": cores(), "note": args.note, "stages": stages}
    print_and_write("prepare_at_scale", result, markdown, args.output)


if __name__ == "__main__":
    main()

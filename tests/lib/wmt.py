"""A small world to prepare data in: archives as WMT has them, and a folder that sacreBLEU takes for its cache."""

from __future__ import annotations

import random
import shutil
import subprocess
import tarfile
from pathlib import Path

from commands import script

ENGLISH = "house cat dog tree river hand big small red green old new sees takes and the not here"
GERMAN = "Haus Katze Hund Baum Fluss Hand groß klein rot grün alt neu sieht nimmt und das nicht hier"
WORDS = list(zip(ENGLISH.split(), GERMAN.split(), strict=True))
SETS = ("wmt10", "wmt11", "wmt12", "wmt13", "wmt14/full", "wmt15", "wmt16")
PARTS = {
    "europarl-v7": ("wmt13/training-parallel-europarl-v7.tgz", "training/europarl-v7.de-en", 150),
    "commoncrawl": ("wmt13/training-parallel-commoncrawl.tgz", "commoncrawl.de-en", 120),
    "news-commentary-v9": ("wmt14/training-parallel-nc-v9.tgz", "training/news-commentary-v9.de-en", 80),
    "news-commentary-v11": (
        "wmt16/translation-task/training-parallel-nc-v11.tgz",
        "training-parallel-nc-v11/news-commentary-v11.de-en",
        90,
    ),
}

SMALL_CONFIG = """
max_update=6 tokens_per_update=320 max_tokens=160
model=(--arch b2t_transformer_tiny --residual b2t --share-all-embeddings --dropout 0)
training=(--optimizer adam --lr 0.01 --criterion label_smoothed_cross_entropy --label-smoothing 0.1
          --required-batch-size-multiple 1 --seed 7 --save-interval-updates 3)
average=(--by updates --last 2)
generation=(--beam 2)
"""


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Return pairs of sentences, English and German, with the same order of words."""
    rng = random.Random(seed)
    chosen = [rng.choices(WORDS, k=rng.randint(2, 7)) for _ in range(count)]
    return [tuple(" ".join(side).capitalize() + " ." for side in zip(*words, strict=True)) for words in chosen]


def write_archives(folder: Path, scale: float = 1.0) -> None:
    """Write the archives under the paths of WMT's server; they hold text of another language pair too."""
    for seed, (path, member, count) in enumerate(PARTS.values()):
        content = folder / "content" / str(seed)
        for language, side in zip(("en", "de"), zip(*pairs(int(count * scale), seed), strict=True), strict=True):
            for name in (f"{member}.{language}", f"{member.replace('de-en', 'fr-en')}.{language}"):
                (content / name).parent.mkdir(parents=True, exist_ok=True)
                (content / name).write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / path, "w:gz") as tar:
            for file in sorted(content.rglob("*.*")):
                tar.add(file, file.relative_to(content))
    shutil.rmtree(folder / "content")


def write_table(path: Path, megabytes: int = 1) -> None:
    """Write the table of archives with the numbers of pairs in :func:`write_archives`."""
    hosts = {"wmt16": "https://data.statmt.org"}
    rows = [
        f"{name}\t{hosts.get(file[:5], 'https://www.statmt.org')}/{file}\t{member}\t{count}\t{megabytes}\t-\n"
        for name, (file, member, count) in PARTS.items()
    ]
    path.write_text("# name, address, text, pairs, megabytes, SHA-256\n" + "".join(rows))


def write_cache(folder: Path, segments: int = 5) -> None:
    """Write English-German newstest2010 to newstest2016 into a folder that sacreBLEU takes for its cache."""
    for seed, name in enumerate(SETS):
        (folder / name).mkdir(parents=True)
        sides = dict(zip(("src", "ref"), zip(*pairs(segments, 100 + seed), strict=True), strict=True))
        for field in ("src", "ref", "docid", "genre", "origlang"):
            lines = sides.get(field, ["unknown"] * segments)
            file = folder / name / f"{name.replace('/', '_')}.en-de.{field}"
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def prepare(
    world: Path, out: Path, *arguments: object, check: bool = True, **variables: str
) -> subprocess.CompletedProcess:
    """Run scripts/prepare_wmt14_en_de.sh on the archives of ``world``."""
    mirror = f"file://{world}/mirror".replace(" ", "%20")
    defaults = ("--out", out, "--table", world / "archives.tsv", "--vocabulary", 120)
    variables = {"SACREBLEU": str(world / "sacrebleu"), "WMT_MIRROR": mirror, **variables}
    return script("prepare_wmt14_en_de.sh", *defaults, *arguments, check=check, **variables)

"""An archive with the layout of IWSLT14 German-English, at a small size, and the preparation of it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from commands import script
from wmt import pairs

TALKS, SENTENCES = 4, 30
SETS = {
    "IWSLT14.TED.dev2010": 3,
    "IWSLT14.TEDX.dev2012": 4,
    "IWSLT14.TED.tst2010": 5,
    "IWSLT14.TED.tst2011": 6,
    "IWSLT14.TED.tst2012": 7,
}
ARCHIVE = "fairseq/data/iwslt14/de-en.tgz"
# German and English; the papers' limits leave these out
UNFIT = [("Ja .", "a much longer sentence ."), ("Wort " * 180, "word " * 180), ("", "nothing there")]
LINES = TALKS * (SENTENCES + 2) + len(UNFIT)
FIT = TALKS * (SENTENCES + 2)


def talk(number: int) -> list[tuple[str, str]]:
    """Return title, description and sentences of a talk, German and English."""
    head = [(f"Vortrag {number}", f"Talk {number}"), (f"Was {number} sagt", f"What {number} says")]
    return head + [(german, english) for english, german in pairs(SENTENCES, 200 + number)]


def training_pairs() -> list[tuple[str, str]]:
    """Return all pairs of the training text, German and English, those that are left out last."""
    return [pair for number in range(TALKS) for pair in talk(number)] + UNFIT


def held_out_pairs() -> list[tuple[str, str]]:
    """Return all pairs of the five test sets, German and English, in the order of the papers."""
    return [
        (german, english) for seed, count in enumerate(SETS.values()) for english, german in pairs(count, 300 + seed)
    ]


def members(folder: str = "de-en") -> dict[str, str]:
    """Return the files of the archive: names and content."""
    files = {f"{folder}/README": "The README of the real archive is longer.\n"}
    for side, language in enumerate(("de", "en")):
        lines = []
        for number in range(TALKS):
            title, description, *sentences = (pair[side] for pair in talk(number))
            lines += [
                f"<url>http://www.ted.com/talks/talk_{number}.html</url>",
                "<keywords>talks, science, technology</keywords>",
                f"<talkid>{number + 1}</talkid>",
                f"<title>{title}</title>",
                f"<description>{description}</description>",
                *(f" {sentence} " for sentence in sentences),
            ]
        lines += [pair[side] for pair in UNFIT]
        files[f"{folder}/train.tags.{folder}.{language}"] = "".join(f"{line}\n" for line in lines)
        for seed, (name, count) in enumerate(SETS.items()):
            segments = [pair[1 - side] for pair in pairs(count, 300 + seed)]
            files[f"{folder}/{name}.{folder}.{language}.xml"] = _xml(name, language, segments)
    return files


def _xml(name: str, language: str, segments: list[str]) -> str:
    kind = "srcset" if language == "de" else "refset"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<mteval>",
        f'<{kind} setid="iwslt2014-{name.rpartition(".")[2]}" srclang="german" trglang="english">',
        '<doc docid="69" genre="lectures">',
        "<url>http://www.ted.com/talks/a_talk.html</url>",
        "<keywords>talks, science</keywords>",
        "<talkid>69</talkid>",
        "<title>A title that is not in the test text</title>",
        *(f'<seg id="{number}"> {segment} </seg>' for number, segment in enumerate(segments, start=1)),
        "</doc>",
        f"</{kind}>",
        "</mteval>",
    ]
    return "".join(f"{line}\n" for line in lines)


def write_archive(path: Path, files: dict[str, str | bytes] | None = None) -> Path:
    """Write an archive and return its path; without ``files`` it has all of :func:`members`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (members() if files is None else files).items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_lines_table(path: Path, **other: int) -> Path:
    """Write the numbers of lines of the archive, some of them as given, and return the path."""
    valid = FIT // 23
    counts = {"train.tags": LINES, **SETS, "train": FIT - valid, "valid": valid, "iwslt14": sum(SETS.values()), **other}
    path.write_text("# name, lines\n" + "".join(f"{name}\t{count}\n" for name, count in counts.items()))
    return path


def prepare(folder: Path, out: Path, *arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    """Run scripts/prepare_iwslt14_de_en.sh on the archive in ``folder/mirror``, with the table ``folder/lines.tsv``."""
    mirror = f"file://{folder}/mirror".replace(" ", "%20")
    defaults = ("--out", out, "--lines", folder / "lines.tsv", "--vocabulary", 100)
    return script("prepare_iwslt14_de_en.sh", *defaults, *arguments, check=check, IWSLT_MIRROR=mirror)

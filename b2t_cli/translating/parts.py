"""A text in parts, each translated by one of several processes; what is finished outlives every kill."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2t_common.errors import InputError
from b2t_common.files import decode_line, replacing, write_whole

_SETTINGS = "settings.json"
_LOCKS = "locks"
_LINES_PER_PART = "lines per part"
_TEXT = "SHA-256 of the text"


@dataclass(frozen=True)
class Span:
    """The lines of a part: where they begin in the file, the number of the first one from 0, and how many there are."""

    offset: int
    first: int
    lines: int


@dataclass(frozen=True)
class Text:
    """A text that was read once: the spans of its parts, the number of its lines, and its SHA-256."""

    path: Path
    spans: list[Span]
    lines: int
    sha256: str

    def read(self, span: Span) -> list[str]:
        """Return the lines of a part, without LF."""
        with open(self.path, "rb") as file:
            file.seek(span.offset)
            return [file.readline().decode("utf-8").removesuffix("\n") for _ in range(span.lines)]


def scan(path: Path, lines_per_part: int) -> Text:
    """Read a text once, line by line.  Only LF ends a line.

    Raises:
        InputError: it is empty, or not UTF-8.
    """
    spans: list[Span] = []
    offset = begin = number = 0
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            decode_line(line, path, number)
            digest.update(line)
            offset += len(line)
            if number % lines_per_part == 0:
                spans.append(Span(begin, number - lines_per_part, lines_per_part))
                begin = offset
    if number % lines_per_part:
        spans.append(Span(begin, number - number % lines_per_part, number % lines_per_part))
    if not spans:
        raise InputError(f"{path} is empty")
    return Text(path, spans, number, digest.hexdigest())


def folder_of(output: Path) -> Path:
    """Return the folder of the parts of an output."""
    return output.with_name(f"{output.name}.parts")


def lines_per_part(output: Path, asked: int | None, default: int) -> int:
    """Return the number of lines of each part: what was asked for, else that of parts that exist, else the default."""
    settings = folder_of(output) / _SETTINGS
    if asked is None and settings.is_file():
        return int(json.loads(settings.read_text(encoding="utf-8"))[_LINES_PER_PART])
    return asked or default


def are_finished(output: Path, text: Text) -> bool:
    """Return whether all parts of an output are translated already."""
    return all(_file_of(folder_of(output), number).exists() for number in range(len(text.spans)))


def _file_of(folder: Path, number: int) -> Path:
    return folder / f"{number:07d}.txt"


def _all_settings(text: Text, settings: dict[str, Any]) -> dict[str, Any]:
    return {_TEXT: text.sha256, _LINES_PER_PART: text.spans[0].lines, **settings}


def refuse_other_settings(output: Path, text: Text, settings: dict[str, Any]) -> None:
    """Raise InputError if there are parts of an output that were made of another text or with other settings."""
    file = folder_of(output) / _SETTINGS
    if not file.exists():
        return
    before, now = json.loads(file.read_text(encoding="utf-8")), _all_settings(text, settings)
    changed = [f"{key} was {before.get(key)!r} and is now {now[key]!r}" for key in now if before.get(key) != now[key]]
    if changed:
        raise InputError(
            f"{folder_of(output)} was begun with other settings: {'; '.join(changed)}; give them again, or delete the "
            "folder"
        )


class Parts:
    """The parts of one output in their folder.

    Each finished part is a file.  A process locks a part while it translates it: a byte of one file, which the system
    unlocks when the process ends, however it ends.
    """

    def __init__(self, output: Path, text: Text, settings: dict[str, Any]) -> None:
        """Make the folder, or continue with the one that is there.

        Args:
            output: where the translations go at the end.
            text: the text.
            settings: what a translation depends on, besides the text.

        Raises:
            InputError: the parts there were made of another text or with other settings.
        """
        self.output, self.text = output, text
        self.folder = folder_of(output)
        self.folder.mkdir(exist_ok=True)
        self._locks = os.open(self.folder / _LOCKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with self._locked(len(text.spans)):
            if not (file := self.folder / _SETTINGS).exists():
                write_whole({file: (json.dumps(_all_settings(text, settings), indent=1) + "\n").encode()})
        refuse_other_settings(output, text, settings)

    def unclaimed(self, wait: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield number and lines of each part that is not finished and that no other process translates.

        Args:
            wait: wait for other processes, and yield what they leave unfinished.
        """
        for number, span in enumerate(self.text.spans):
            if self.is_finished(number):
                continue
            with self._locked(number, wait) as mine:
                # another process may have finished it just now
                if mine and not self.is_finished(number):
                    yield number, self.text.read(span)

    def is_finished(self, number: int) -> bool:
        """Return whether a part is translated."""
        return self._file(number).exists()

    def finish(self, number: int, translations: Sequence[str]) -> None:
        """Write the translations of a part.

        Raises:
            ValueError: there are more or fewer than lines, or one has an LF.
        """
        if len(translations) != self.text.spans[number].lines or any("\n" in line for line in translations):
            raise ValueError(f"{len(translations)} translations for {self.text.spans[number].lines} lines")
        write_whole({self._file(number): "".join(f"{line}\n" for line in translations).encode()})

    def lines_finished(self) -> int:
        """Return how many lines all processes have translated."""
        return sum(span.lines for number, span in enumerate(self.text.spans) if self.is_finished(number))

    def join(self) -> int:
        """Write the output from its parts, remove these, and return how many translations are empty."""
        empty = 0
        with replacing(self.output) as (unfinished,), open(unfinished, "wb") as file:
            for number in range(len(self.text.spans)):
                content = self._file(number).read_bytes()
                empty += sum(not line for line in content.split(b"\n")[:-1])
                file.write(content)
        shutil.rmtree(self.folder)
        return empty

    def _file(self, number: int) -> Path:
        return _file_of(self.folder, number)

    @contextmanager
    def _locked(self, number: int, wait: bool = True) -> Iterator[bool]:
        """Lock a number; yield whether this process has it."""
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, number)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, number)

"""What ``b2t translate`` does: its share of the parts, and at the end the whole."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2t_common.names import flag

from ..progress import SECONDS_BETWEEN_REPORTS, progress_line
from ..translate import LINES_PER_PART, SEARCH
from .parts import Parts, are_finished, lines_per_part, refuse_other_settings, scan

if TYPE_CHECKING:
    from .translator import Translator


def run(args: argparse.Namespace) -> None:
    """Translate what no other process translates; unless this is one of several, write the output at the end.

    Args:
        args: the arguments of the command.

    Raises:
        InputError: the text or the model cannot be used, or the parts that exist are of other settings.
    """
    text = scan(args.text, lines_per_part(args.output, args.lines_per_part, LINES_PER_PART))
    settings = _settings(args)
    refuse_other_settings(args.output, text, settings)
    # before the folder of parts is made, which would keep settings that are refused here
    translator = None if are_finished(args.output, text) and not args.dry_run else _loaded(args)
    if args.dry_run:
        return
    parts = Parts(args.output, text, settings)
    if translator is not None:
        _translate(args, parts, translator)
    if not args.parts_only:
        empty = parts.join()
        print(f"{text.lines:,} lines in {args.output}, {empty:,} of them empty")


def _loaded(args: argparse.Namespace) -> Translator:
    from .translator import Translator

    return Translator(args)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what a translation depends on: the model's file, and the flags."""
    model = ("seed", "tag", "pieces", "max_pieces", "int8", "bf16", "fp16", "shortlist", "source_lang", "target_lang")
    names = (*SEARCH, *model)
    return {**_model_file(args.run), **{flag(name): getattr(args, name) for name in names}}


def _model_file(run: Path) -> dict[str, Any]:
    """Return what tells the model that ``from_pretrained`` takes from others, without reading all of it."""
    from b2t_fairseq.hub import checkpoint_file

    file = checkpoint_file(run)
    status = file.stat()
    return {"model": str(file.resolve()), "bytes of the model": status.st_size, "time of the model": status.st_mtime_ns}


def _translate(args: argparse.Namespace, parts: Parts, translator: Translator) -> None:
    progress = Progress(parts)
    progress.report()
    # one of several processes leaves the parts of others to them; the last one waits for them
    for wait in (False, True)[: 1 if args.parts_only else 2]:
        for number, lines in parts.unclaimed(wait):
            translations, num_cut = translator.translate(lines, number)
            if args.tag:
                translations = [f"{args.tag} {line}" if line else line for line in translations]
            parts.finish(number, translations)
            if num_cut:
                first = parts.text.spans[number].first + 1
                print(
                    f"lines {first} to {first + len(lines) - 1}: {num_cut} longer than {translator.max_pieces} pieces, "
                    "cut and translated",
                    file=sys.stderr,
                )
            progress.report()


class Progress:
    """Reports of the work of all processes, on standard error; one every few seconds, whoever makes it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.begin = time.monotonic()
        self.before = parts.lines_finished()
        self.file = parts.folder / "reported"

    def report(self) -> None:
        """Print how many lines are finished, how fast, and how long the rest will take; not too often."""
        done, total = self.parts.lines_finished(), self.parts.text.lines
        if done < total and self._reported_just_now():
            return
        line = progress_line(done, total, "lines", self.before, time.monotonic() - self.begin)
        print(line, file=sys.stderr, flush=True)

    def _reported_just_now(self) -> bool:
        """Return whether a process has reported in the last seconds; otherwise note that this one does."""
        try:
            recently = time.time() - self.file.stat().st_mtime < SECONDS_BETWEEN_REPORTS
        except FileNotFoundError:
            recently = False
        if not recently:
            self.file.touch()
        return recently

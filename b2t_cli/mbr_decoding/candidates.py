"""The candidates of each sentence, from one or several outputs for the same text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from b2t_common.errors import InputError
from b2t_common.files import read_lines

from ..scoring.generated import Output, read_output, refuse_pieces, require_same_text


class Candidates(NamedTuple):
    """The candidates of each sentence, in the order of the text, and the lines of its source and of its reference.

    The lines are read once, because the text may come from a pipe; a text that is not given is empty.
    """

    sentences: list[list[str]]
    source: list[str]
    reference: list[str]


def read_candidates(paths: Sequence[Path], source: Path | None, reference: Path | None) -> Candidates:
    """Return what outputs and texts have of each sentence.

    Args:
        paths: outputs of ``fairseq-generate`` for one text.
        source: its source, if it is given.
        reference: its reference, if it is given.

    Raises:
        InputError: an output lacks sentences, has pieces instead of text, or is of another text than the others, than
            the source or than the reference.
    """
    outputs = [read_output(path) for path in paths]
    for path, output in zip(paths, outputs, strict=True):
        _require_all(path, output)
        _require_same(path, output, paths[0], outputs[0])
        refuse_pieces(path, [lines[0] for lines in output.candidates.values()], [""])
    number = len(outputs[0].candidates)
    candidates = [[line for output in outputs for line in output.candidates[index]] for index in range(number)]
    first, texts = outputs[0], []
    for flag, text, printed in (("--source", source, first.sources), ("--reference", reference, first.targets)):
        lines = [] if text is None else read_lines(text)
        texts.append(lines)
        if text is not None and len(lines) != number:
            raise InputError(
                f"{paths[0]} has {number} sentences, but {text} has {len(lines)} lines; give the same test set"
            )
        require_same_text(paths[0], printed, lines, f"{flag} {text}")
    if all(len(lines) == 1 for lines in candidates):
        raise InputError(
            f"{paths[0]} has one candidate for each sentence, so there is nothing to choose; generate with --nbest N"
        )
    return Candidates(candidates, *texts)


def _require_all(path: Path, output: Output) -> None:
    numbers = output.candidates.keys()
    if missing := sorted(set(range(max(numbers) + 1)) - numbers):
        raise InputError(
            f"{path} has {len(numbers)} of {max(numbers) + 1} sentences; missing: {', '.join(map(str, missing[:10]))}; "
            "generate with --required-batch-size-multiple 1 and without --skip-invalid-size-inputs-valid-test"
        )


def _require_same(path: Path, output: Output, first_path: Path, first: Output) -> None:
    """Raise InputError if an output is of another text than the first one."""
    if len(output.candidates) != len(first.candidates):
        raise InputError(
            f"{path} has {len(output.candidates)} sentences, but {first_path} has {len(first.candidates)}; give "
            "outputs for the same test set"
        )
    for number in sorted(output.sources.keys() & first.sources.keys()):
        here, there = output.sources[number], first.sources[number]
        if here != there:
            raise InputError(
                f"{path} is of another text than {first_path}: sentence {number} is {here!r}, but {there!r} there; "
                "give outputs for the same test set"
            )

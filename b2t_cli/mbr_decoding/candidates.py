"""The candidates of each sentence, from one or several outputs for the same text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import read_lines

from ..scoring.generated import Output, read_output, refuse_pieces

UNKNOWN = "<unk>"
_SHARE = 0.5
"""The share of sentences that have to be those of the text: a normalizer or a tokenizer has changed some of them."""


def read_candidates(paths: Sequence[Path], texts: Sequence[Path]) -> list[list[str]]:
    """Return the candidates of each sentence, in the order of the text.

    Args:
        paths: outputs of ``fairseq-generate`` for one text.
        texts: source and reference of the text, as far as they are known; the first may be compared with the output.

    Raises:
        InputError: an output lacks sentences, has pieces instead of text, or is of another text than the others.
    """
    outputs = [read_output(path) for path in paths]
    for path, output in zip(paths, outputs, strict=True):
        _require_all(path, output)
        _require_same(path, output, paths[0], outputs[0])
        refuse_pieces(path, [lines[0] for lines in output.candidates.values()], [""])
    number = len(outputs[0].candidates)
    candidates = [[line for output in outputs for line in output.candidates[index]] for index in range(number)]
    for text in texts:
        if (lines := len(read_lines(text))) != number:
            raise InputError(f"{paths[0]} has {number} sentences, but {text} has {lines} lines; give the same test set")
    if all(len(lines) == 1 for lines in candidates):
        raise InputError(
            f"{paths[0]} has one candidate for each sentence, so there is nothing to choose; generate with --nbest N"
        )
    return candidates


def require_source(path: Path, text: Path) -> None:
    """Check that an output is of a source text, as far as its lines S- tell.

    Raises:
        InputError: most of its sentences are others; the message quotes the first.
    """
    sources, lines = read_output(path).sources, read_lines(text)
    compared = {number: line for number, line in sources.items() if UNKNOWN not in line and number < len(lines)}
    others = [number for number, line in sorted(compared.items()) if _letters(line) != _letters(lines[number])]
    if len(others) > _SHARE * len(compared):
        first = others[0]
        raise InputError(
            f"{path} is of another text than --source {text}: its sentence {first} is {sources[first]!r}, but line "
            f"{first + 1} of the text is {lines[first]!r}"
        )


def _letters(line: str) -> str:
    """Return what a tokenizer, a normalizer and marks of pieces leave as it is."""
    return "".join(unicodedata.normalize("NFKC", line).replace("\u2581", "").split()).replace("@@", "").casefold()


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

"""What ``fairseq-generate`` prints."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from b2t_common.errors import InputError
from b2t_common.files import read_lines

_LINE = re.compile(r"([STD])-(\d+)\t")
_TOKENS = re.compile(r"H-(\d+)\t[^\t]*\t(.*)")

# what is left in text that was not put together again, and the flag of fairseq-generate that does so
_LEFTOVERS = {
    "pieces of SentencePiece": (re.compile("\u2581"), "--remove-bpe sentencepiece"),
    "pieces of subword-nmt": (re.compile(r"\S@@(?: |$)"), "--remove-bpe"),
    "Moses tokens": (re.compile(r" @-@ "), "--tokenizer moses"),
}

_SHARE = 0.05
"""The share of lines that have leftovers where a text is in pieces."""

_UNKNOWN = "<unk>"
_OTHERS = 0.5
"""The share of lines that may differ in two forms of one text: a normalizer has changed some of them."""


class Output(NamedTuple):
    """What was printed of each sentence, by its number: source, target, and translations, best first."""

    sources: dict[int, str]
    targets: dict[int, str]
    candidates: dict[int, list[str]]


def read_generated(path: Path, references: Sequence[str]) -> list[str]:
    """Return the best translation of each sentence, from fairseq's lines D-NUMBER, in the order of the corpus.

    Args:
        path: the output.
        references: the reference translations that the translations will be compared with.

    Raises:
        InputError: translations are missing or there are too many, the file has two outputs or is of another text, or
            the translations are in pieces and the references are not.
    """
    output = read_output(path)
    best = {number: candidates[0] for number, candidates in output.candidates.items()}
    expected = len(references)
    missing = [str(i) for i in range(expected) if i not in best]
    if missing:
        raise InputError(
            f"{path} has {len(best)} translations for {expected} references; missing sentences: "
            f"{', '.join(missing[:10])}; generate with --required-batch-size-multiple 1 and without "
            "--skip-invalid-size-inputs-valid-test, or fairseq leaves sentences out; or give the reference of the same "
            "test set"
        )
    if len(best) != expected:
        raise InputError(
            f"{path} has {len(best)} translations for {expected} references; give the reference of the same test set"
        )
    hypotheses = [best[i] for i in range(expected)]
    refuse_pieces(path, hypotheses, references)
    require_same_text(path, output.targets, references, "the reference")
    return hypotheses


def read_output(path: Path) -> Output:
    """Return all that an output has of each sentence.

    In one output all lines of a sentence, also those of ``--nbest``, follow each other.

    Raises:
        InputError: there is no translation, or a sentence is there twice.
    """
    output = Output({}, {}, {})
    last: int | None = None
    for line in read_lines(path):
        match = _LINE.match(line)
        # the last line of a process that was killed may be incomplete
        if not match or (match[1] == "D" and line.count("\t") < 2):
            continue
        kind, number = match[1], int(match[2])
        # each sentence has at most one line S- and T-, and one or more lines D-
        if kind == "D":
            is_again = number != last and number in output.candidates
            last = number
            output.candidates.setdefault(number, []).append(line.split("\t", 2)[2])
        else:
            printed = output.sources if kind == "S" else output.targets
            is_again = number in printed
            printed[number] = line.split("\t", 1)[1]
        if is_again:
            raise InputError(
                f"{path} has sentence {number} twice, so it has more than one output of fairseq-generate; give a file "
                "for each output"
            )
    if not output.candidates:
        raise InputError(
            f"{path} has no translation (a line D-0 ...); give what fairseq-generate or b2t generate printed"
        )
    return output


def require_same_text(path: Path, printed: Mapping[int, str], lines: Sequence[str], name: str) -> None:
    """Check that an output is of a text, as far as its lines S- or T- tell.

    Args:
        path: the output.
        printed: its sources or its targets, by the number of their sentence.
        lines: the text.
        name: of the text, for the message.

    Raises:
        InputError: most of the sentences are others; the message quotes the first.
    """
    compared = {number: line for number, line in printed.items() if _UNKNOWN not in line and number < len(lines)}
    others = [number for number, line in sorted(compared.items()) if _letters(line) != _letters(lines[number])]
    if len(others) > _OTHERS * len(compared):
        first = others[0]
        raise InputError(
            f"{path} is of another text than {name}: its sentence {first} is {printed[first]!r}, but line {first + 1} "
            f"of the text is {lines[first]!r}"
        )


def _letters(line: str) -> str:
    """Return the letters and digits, which a tokenizer, a normalizer and marks of pieces leave as they are."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", html.unescape(line)))).casefold()


def refuse_pieces(path: Path, hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raise InputError if only one of the two texts is in pieces; single lines may hold such characters anyway."""
    for name, (leftover, flag) in _LEFTOVERS.items():
        translated, reference = (list(filter(leftover.search, lines)) for lines in (hypotheses, references))
        if len(translated) >= _SHARE * len(hypotheses) and not reference:
            raise InputError(f"{path} has {name} ({translated[0]!r}), and not text; generate with {flag}")
        if len(reference) >= _SHARE * len(references) and not translated:
            raise InputError(
                f"the reference of {path} has {name} ({reference[0]!r}), but the translations are text; give the "
                "reference as it was before it was split"
            )


def read_tokens(path: Path, references: Sequence[str]) -> list[str]:
    """Return the tokens from which the text of each best translation was made, from fairseq's lines H-NUMBER.

    Args:
        path: the output, of which :func:`read_generated` has read the translations.
        references: tokens of the reference translations.

    Raises:
        InputError: a sentence has no such line, or only one of the two texts is in pieces.
    """
    tokens: dict[int, str] = {}
    for match in filter(None, map(_TOKENS.match, read_lines(path))):
        tokens.setdefault(int(match[1]), match[2])
    missing = [str(number) for number in range(len(references)) if number not in tokens]
    if missing:
        raise InputError(f"{path} has no line H-{missing[0]} with tokens; give all that fairseq-generate printed")
    hypotheses = [tokens[number] for number in range(len(references))]
    refuse_pieces(path, hypotheses, references)
    return hypotheses

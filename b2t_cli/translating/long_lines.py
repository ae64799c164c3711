"""Lines that are longer than a model should translate at once, cut where a reader would pause."""

from __future__ import annotations

from collections.abc import Sequence

_WORD_START = "\u2581"
_PAUSES = ((*".!?;:\u2026", "\u3002", "\uff01", "\uff1f", "\uff1b", "\uff1a"), (",", ")", "\u3001", "\uff0c"))
"""What a piece ends with before a good place to cut, best first; the codes are Chinese and Japanese punctuation."""


def cut(pieces: Sequence[str], limit: int) -> list[Sequence[str]]:
    """Cut the pieces of a line into stretches of at most ``limit`` pieces, which together are the line.

    A stretch ends after the end of a sentence, else after a comma, else between two words, if its second half has such
    a place.
    """
    stretches = []
    while len(pieces) > limit:
        end = _place(pieces, limit)
        stretches.append(pieces[:end])
        pieces = pieces[end:]
    return [*stretches, pieces]


def _place(pieces: Sequence[str], limit: int) -> int:
    """Return where to cut: a number from 1 to ``limit``."""
    has_marks = any(piece.startswith(_WORD_START) for piece in pieces[: limit + 1])

    def begins_word(index: int) -> bool:
        # SentencePiece marks the beginning of a word, and subword-nmt a piece that does not end one
        return pieces[index].startswith(_WORD_START) if has_marks else not pieces[index - 1].endswith("@@")

    ends = [end for end in range(limit, limit // 2, -1) if begins_word(end)]
    for pauses in _PAUSES:
        for end in ends:
            if pieces[end - 1].endswith(pauses):
                return end
    return ends[0] if ends else limit

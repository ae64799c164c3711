"""BPE-dropout (Provilkov et al. 2020, arXiv 1910.13267): merges of BPE are left out at random.

In each step every possible merge is left out with probability p, and of the others the one with the highest priority is
made; a word is done when no merge is left.  With p = 0 this is BPE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random


class Merging:
    """Draws the pieces of words.

    Args:
        rank: returns the priority of a merge of two symbols, the smallest first; ``None`` if there is no such merge.
        split: returns the characters of a word, as the symbols with which merging begins.
        names: returns the names in the dictionary of a word's pieces.
        indices: of the pieces in the dictionary.
        dropout: the probability p.
    """

    def __init__(
        self,
        rank: Callable[[str, str], float | None],
        split: Callable[[str], list[str]],
        names: Callable[[Sequence[str]], Sequence[str]],
        indices: Mapping[str, int],
        dropout: float,
    ) -> None:
        self.rank, self.split, self.names = rank, split, names
        self.indices, self.dropout = indices, dropout

    def prepare(self, word: str) -> list[str]:
        """Return the characters of a word."""
        return self.split(word)

    def draw(self, characters: list[str], generator: Random) -> list[int] | None:
        """Return the symbols of a word, ``None`` if the dictionary does not have all of them."""
        return self._symbols(self._merged(characters, lambda: generator.random() < self.dropout))

    def best(self, word: str) -> list[int] | None:
        """Return the symbols of a word without dropout, ``None`` if the dictionary does not have all of them."""
        return self._symbols(self._merged(self.split(word), lambda: False))

    def _merged(self, symbols: list[str], is_dropped: Callable[[], bool]) -> list[str]:
        while len(symbols) > 1:
            # priority, and the place of the first of the two
            merges = [
                (rank, place)
                for place in range(len(symbols) - 1)
                if (rank := self.rank(symbols[place], symbols[place + 1])) is not None and not is_dropped()
            ]
            if not merges:
                break
            first = min(merges)[1]
            pair = symbols[first], symbols[first + 1]
            places = [place for _, place in merges if (symbols[place], symbols[place + 1]) == pair]
            symbols = _join(symbols, places)
        return symbols

    def _symbols(self, pieces: list[str]) -> list[int] | None:
        indices = [self.indices.get(name) for name in self.names(pieces)]
        return None if None in indices else indices  # type: ignore[return-value]


def _join(symbols: list[str], places: list[int]) -> list[str]:
    """Return symbols of which those at each place and the next are joined, unless the place before was."""
    joined, position = [], 0
    for place in places:
        if place >= position:
            joined += [*symbols[position:place], symbols[place] + symbols[place + 1]]
            position = place + 2
    return joined + symbols[position:]

"""Sampling from a unigram model (Kudo 2018, arXiv 1804.10959), as SentencePiece does it without a limit of candidates.

A segmentation x of a word has the probability P(x) ** alpha / Z, where P(x) is the product of the probabilities of its
pieces.  A small alpha makes all segmentations equally probable.  Drawing goes backwards through the lattice of pieces,
with the sums of a forward pass; SentencePiece cannot be used, since it seeds its generator once in a thread.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping
from itertools import accumulate
from random import Random
from typing import NamedTuple


class Arcs(NamedTuple):
    """The pieces that may end at one position of a word.

    Attributes:
        starts: where each begins.
        symbols: their indices in the dictionary.
        bounds: cumulative probabilities, of which the last one is 1.
    """

    starts: list[int]
    symbols: list[int]
    bounds: list[float]


class Unigram:
    """Draws the pieces of words.

    Args:
        scores: the logarithms of the probabilities of the pieces.
        indices: of the pieces in the dictionary; others are never drawn.
        alpha: exponent of the probabilities.
    """

    def __init__(self, scores: Mapping[str, float], indices: Mapping[str, int], alpha: float) -> None:
        self.pieces = {piece: (score, indices[piece]) for piece, score in scores.items() if piece in indices}
        self.longest = max(map(len, self.pieces), default=0)
        self.alpha = alpha

    def prepare(self, word: str) -> list[Arcs] | None:
        """Return the lattice of a word: what may end at each position after the first; ``None`` if no pieces fit."""
        sums = [0.0] + [-math.inf] * len(word)
        lattice = []
        for end in range(1, len(word) + 1):
            arcs = [
                (start, symbol, sums[start] + self.alpha * score)
                for start, score, symbol in self._ending_at(word, end)
                if sums[start] > -math.inf
            ]
            if arcs:
                largest = max(weight for *_, weight in arcs)
                weights = [math.exp(weight - largest) for *_, weight in arcs]
                sums[end] = largest + math.log(sum(weights))
                bounds = [bound / sum(weights) for bound in accumulate(weights)]
                lattice.append(Arcs([arc[0] for arc in arcs], [arc[1] for arc in arcs], bounds))
            else:
                lattice.append(Arcs([], [], []))
        return lattice if sums[-1] > -math.inf else None

    def draw(self, lattice: list[Arcs], generator: Random) -> list[int]:
        """Return the symbols of one segmentation, drawn by its probability."""
        drawn, position = [], len(lattice)
        while position:
            starts, symbols, bounds = lattice[position - 1]
            # a single piece needs no random number; rounding may leave the last bound below 1
            choice = 0 if len(symbols) == 1 else min(bisect(bounds, generator.random()), len(symbols) - 1)
            drawn.append(symbols[choice])
            position = starts[choice]
        return drawn[::-1]

    def best(self, word: str) -> list[int] | None:
        """Return the symbols of the most probable segmentation, ``None`` if no pieces fit."""
        best: list[tuple[float, list[int]] | None] = [(0.0, [])] + [None] * len(word)
        for end in range(1, len(word) + 1):
            for start, score, symbol in self._ending_at(word, end):
                before = best[start]
                if before is not None and (best[end] is None or before[0] + score > best[end][0]):  # type: ignore[index]
                    best[end] = before[0] + score, [*before[1], symbol]
        return best[-1][1] if best[-1] else None

    def _ending_at(self, word: str, end: int):
        """Yield start, score and symbol of each piece that ends at a position, the longest first."""
        for start in range(max(0, end - self.longest), end):
            if (piece := self.pieces.get(word[start:end])) is not None:
                yield start, *piece

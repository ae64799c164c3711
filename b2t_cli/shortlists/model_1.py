"""IBM Model 1 (Brown et al., 1993): the probability that a source symbol is translated by a target symbol.

Each target symbol of a sentence pair is the translation of one source symbol.  The end of the source is one of them and
stands for the empty word, because every sentence has it once.  Expectation maximization goes from one target symbol to
the next: which source symbols its occurrences come from depends on no other target symbol.  So only the probabilities
of one target symbol are spread out at a time, and what is kept are expected counts that are not almost zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .sentence_pairs import Side

# Longer sentences are left out: they are often no translations, and say little about which symbols belong together.
LONGEST = 200
# Of a symbol with more occurrences so many are used, evenly spread, and counted as all of them.
OCCURRENCES = 20_000
# Expected counts below are forgotten.
_SMALLEST_COUNT = 1e-3


class Counts(NamedTuple):
    """Expected counts of source symbols that one target symbol comes from.

    Attributes:
        sources: the source symbols, ``(number,)``.
        values: the counts, ``(number,)``.
    """

    sources: np.ndarray
    values: np.ndarray


class Model1:
    """The model of one set of sentence pairs.

    Args:
        source: the sources.
        target: the targets.
        num_sources: size of the source dictionary.
        num_targets: size of the target dictionary.

    Attributes:
        counts: for each target symbol, from the last iteration.
        totals: sum of the counts of each source symbol, ``(num_sources,)``.
        occurrences: of each target symbol, ``(num_targets,)``.
    """

    def __init__(self, source: Side, target: Side, num_sources: int, num_targets: int) -> None:
        self.source, self.starts, self.num_sources = source, source.starts(), num_sources
        self.occurrences = np.bincount(target.symbols, minlength=num_targets)
        usable = (source.lengths <= LONGEST) & (target.lengths <= LONGEST) & (source.lengths > 0)
        symbols = target.symbols[np.repeat(usable, target.lengths)]
        sentences = np.repeat(np.flatnonzero(usable).astype(np.int32), target.lengths[usable])
        # Stable sorting of 16 bits is much faster than of 64.
        order = np.argsort(symbols.astype(np.uint16 if num_targets <= 2**16 else np.uint32), kind="stable")
        self.sentences = sentences[order]
        self.ends = np.cumsum(np.bincount(symbols, minlength=num_targets))
        self.counts: list[Counts] = []
        self.totals = np.zeros(num_sources)

    def iterate(self, first_symbol: int) -> None:
        """Do one iteration; the first one begins with equal probabilities.

        Args:
            first_symbol: target symbols below it are special ones, and come from nothing.
        """
        before, totals = self.counts, self.totals
        self.counts, self.totals = [], np.zeros(self.num_sources)
        probabilities = np.zeros(self.num_sources, dtype=np.float32) if before else None
        for symbol in range(len(self.ends)):
            if probabilities is not None:
                sources, values = before[symbol]
                probabilities[sources] = values / totals[sources]
            counts = self._expected(symbol if symbol >= first_symbol else None, probabilities)
            self.counts.append(counts)
            self.totals[counts.sources] += counts.values
            if probabilities is not None:
                probabilities[sources] = 0

    def _expected(self, symbol: int | None, probabilities: np.ndarray | None) -> Counts:
        """Return from which source symbols the occurrences of a target symbol come.

        Args:
            symbol: the target symbol; ``None`` occurs nowhere.
            probabilities: of this symbol given each source symbol, ``(num_sources,)``; ``None``: all are equal.
        """
        sentences = self.sentences[:0]
        if symbol is not None:
            sentences = self.sentences[self.ends[symbol - 1] if symbol else 0 : self.ends[symbol]]
        number = len(sentences)
        if not number:
            return Counts(np.zeros(0, np.int32), np.zeros(0, np.float32))
        if number > OCCURRENCES:
            sentences = sentences[np.linspace(0, number - 1, OCCURRENCES).astype(np.int64)]
        lengths = self.source.lengths[sentences]
        begins = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(self.starts[sentences] - begins, lengths)
        sources = self.source.symbols[places]
        weights = np.ones(len(sources), np.float32) if probabilities is None else probabilities[sources]
        sums = np.add.reduceat(weights, begins)
        # An occurrence that no source symbol explains any more is not counted.
        shares = np.divide(number / len(sentences), sums, out=np.zeros_like(sums), where=sums > 0)
        expected = np.bincount(sources, weights=weights * np.repeat(shares, lengths), minlength=self.num_sources)
        kept = np.flatnonzero(expected > _SMALLEST_COUNT)
        return Counts(kept.astype(np.int32), expected[kept].astype(np.float32))

    def translations(self, without: np.ndarray, smallest: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield source symbols, their translations and the probabilities of these, for one target symbol after another.

        Args:
            without: target symbols that are not wanted.
            smallest: the smallest probability that is wanted.
        """
        unwanted = set(without.tolist())
        for symbol, (sources, values) in enumerate(self.counts):
            if symbol not in unwanted:
                probabilities = values / self.totals[sources]
                wanted = probabilities >= smallest
                sources = sources[wanted]
                yield sources, np.full(len(sources), symbol, np.int32), probabilities[wanted].astype(np.float32)


def best_translations(model: Model1, without: np.ndarray, number: int, filler: int) -> np.ndarray:
    """Return the most probable translations of each source symbol, filled up, ``(source symbols, number)``.

    Args:
        model: a model after its last iteration.
        without: target symbols that are not wanted.
        number: how many at most.
        filler: what stands where there are fewer.
    """
    # A source symbol has at most so many translations of this probability, and few are wanted that are rarer.
    parts = list(model.translations(without, smallest=1e-5))
    sources, targets, probabilities = (np.concatenate(x) for x in zip(*parts, strict=True))
    order = np.lexsort((-probabilities, sources))
    sources, targets = sources[order], targets[order]
    lengths = np.bincount(sources, minlength=model.num_sources)
    rank = np.arange(len(sources)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    best = np.full((model.num_sources, number), filler, np.int32)
    among = rank < number
    best[sources[among], rank[among]] = targets[among]
    return best

"""Sentences whose pieces are drawn when they are read: other ones in every epoch, the same ones for the same epoch.

What is drawn depends on the seed, the epoch, the side and the number of the sentence, so neither on how many processes
read the data nor on interruptions.

Batches are made once, before it is known how long the sentences will be.  So a length is planned for each, from draws
of some sentences: n pieces of the data become r n in the mean, and their number varies like sqrt(n), as each word is
drawn by itself.  No draw may be longer than planned, so every batch keeps to ``--max-tokens``, and every sentence to
``--max-source-positions`` and ``--max-target-positions``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from random import Random

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, FairseqDataset, LanguagePairDataset
from torch import Tensor

from b2t_common.errors import InputError

from .models import Pieces

logger = logging.getLogger(__name__)

SAMPLE = 1000
"""This many sentences are used to compare the data's pieces with those of the model, and to measure lengths."""
WITHIN = 0.995
"""This share of the first draws is as long as planned or shorter."""
DRAWS = 10
"""How often a sentence is drawn that is longer than planned, before its pieces in the data are taken."""
OTHER_PIECES = 0.01
"""Where more of the words have other pieces than the model gives them, the data was not made with the model."""
_WORDS_KEPT = 2**16


class SampledSide(FairseqDataset):
    """The sentences of one side, cut anew when they are read.

    Args:
        sentences: the data: symbols of the dictionary with the end of the sentence, ``(length,)`` each.
        sizes: their lengths, ``(num_sentences,)``.
        pieces: the model of the pieces.
        end: the symbol that ends a sentence.
        key: names the seed and the side.
        epoch: the number of the epoch, in memory that the processes that load data share, ``(1,)``.
    """

    def __init__(
        self, sentences: Sequence[Tensor], sizes: np.ndarray, pieces: Pieces, end: int, key: str, epoch: Tensor
    ) -> None:
        self.sentences, self.own_sizes, self.pieces = sentences, np.asarray(sizes), pieces
        self.end, self.key, self.epoch = end, key, epoch
        self._prepared = lru_cache(_WORDS_KEPT)(self._prepare)
        self.ratio, self.spread = self._measure()
        planned = self.ratio * self.own_sizes + self.spread * np.sqrt(self.own_sizes)
        self.sizes = np.maximum(np.ceil(planned).astype(self.own_sizes.dtype), self.own_sizes)

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index: int) -> Tensor:
        item = self.sentences[index]
        generator = Random(f"{self.key} {int(self.epoch)} {index}")
        for _ in range(DRAWS):
            drawn = self.draw(item, generator)
            if len(drawn) <= self.sizes[index]:
                return drawn
        return item

    def draw(self, item: Tensor, generator: Random) -> Tensor:
        """Return the symbols of a sentence, ``(new_length,)``, with the pieces of each word drawn anew."""
        symbols = item.tolist()
        is_ended = symbols[-1:] == [self.end]
        drawn: list[int] = []
        for word in self.pieces.words(symbols[: len(symbols) - is_ended]):
            prepared = self._prepared(word)
            drawn += (None if prepared is None else self.pieces.sampler.draw(prepared, generator)) or word
        return torch.tensor(drawn + symbols[len(symbols) - is_ended :], dtype=item.dtype)

    def limit(self, longest: int) -> None:
        """Plan no sentence longer than this that is not longer in the data."""
        self.sizes = np.where(self.own_sizes <= longest, np.minimum(self.sizes, longest), self.sizes)

    def _prepare(self, word: tuple[int, ...]):
        if not self.pieces.symbols.issuperset(word):
            return None
        return self.pieces.sampler.prepare(self.pieces.text(word))

    def sample(self) -> np.ndarray:
        """Return the numbers of sentences at equal distances."""
        return np.unique(np.linspace(0, len(self) - 1, min(SAMPLE, len(self))).astype(int))

    def _measure(self) -> tuple[float, float]:
        """Return by which factor sentences become longer, and by how many times the root of their length it varies."""
        numbers = self.sample()
        before = self.own_sizes[numbers].astype(float)
        generator = Random(self.key)
        after = np.array([len(self.draw(self.sentences[number], generator)) for number in numbers], dtype=float)
        ratio = after.sum() / before.sum()
        return ratio, max(0.0, float(np.quantile((after - ratio * before) / np.sqrt(before), WITHIN)))


class SampledPairs(BaseWrapperDataset):
    """Pairs of which one side or both are drawn anew in every epoch.

    Args:
        pairs: fairseq's data set; its sides are replaced.
        sides: the sides that are drawn, by the name of the attribute, ``src`` or ``tgt``.
        epoch: what the sides read, ``(1,)``.
    """

    def __init__(self, pairs: LanguagePairDataset, sides: dict[str, SampledSide], epoch: Tensor) -> None:
        super().__init__(pairs)
        self.sides, self.shared_epoch = sides, epoch
        for name, side in sides.items():
            setattr(pairs, name, side)
        self._update_sizes()

    def set_epoch(self, epoch: int) -> None:
        """Draw the pieces of this epoch from now on, also in processes that load data already."""
        super().set_epoch(epoch)
        self.shared_epoch.fill_(epoch)

    def filter_indices_by_size(self, indices, max_sizes):
        """Plan no sentence longer than ``max_sizes``, then leave out those that the data has longer."""
        if max_sizes is not None:
            limits = max_sizes if isinstance(max_sizes, Sequence) else (max_sizes, max_sizes)
            for name, longest in zip(("src", "tgt"), limits, strict=True):
                if name in self.sides:
                    self.sides[name].limit(longest)
            self._update_sizes()
        return super().filter_indices_by_size(indices, max_sizes)

    def _update_sizes(self) -> None:
        pairs = self.dataset
        for name, side in self.sides.items():
            setattr(pairs, f"{name}_sizes", side.sizes)
        pairs.sizes = np.vstack((pairs.src_sizes, pairs.tgt_sizes)).T


def require_model_of_data(side: SampledSide, what: str, language: str) -> None:
    """Check that the data has the pieces that a model gives without drawing.

    Args:
        side: the sentences and the model.
        what: the flag that asks for the model, with its value.
        language: of the side.

    Raises:
        InputError: many words have other pieces.
    """
    pieces, words, other = side.pieces, 0, []
    for number in side.sample():
        symbols = [symbol for symbol in side.sentences[number].tolist() if symbol != side.end]
        for word in pieces.words(symbols):
            words += 1
            best = pieces.sampler.best(pieces.text(word)) if pieces.symbols.issuperset(word) else None
            if best != list(word):
                other.append((word, best))
    if len(other) <= OTHER_PIECES * words:
        return
    word, best = other[0]
    raise InputError(
        f"{what}: {pieces.path} is not the model of this data. Of {words} words in {language}, {len(other)} have other "
        f"pieces than it gives, for instance {pieces.named(word)!r} in the data, "
        f"{pieces.named(best) if best else 'no such pieces'!r} by the model; give the model that made the data by "
        "--subword-model"
    )

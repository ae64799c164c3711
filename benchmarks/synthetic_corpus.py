"""Binarized sentence pairs of random words, with the distribution of lengths that WMT's sentences have."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from fairseq.data import indexed_dataset

MEAN_LENGTH = 27  # subwords of a sentence of WMT14 English-German
LENGTH_DEVIATION = 0.6  # standard deviation of the logarithm of the source length
RATIO_DEVIATION = 0.2  # of the logarithm of the ratio of target length to source length
LONGEST = 250  # subwords of a sentence at most, without its end symbol
SPECIAL_SYMBOLS = 4  # fairseq adds them to every dictionary; they are not in its file


def write_corpus(folder: Path, pairs: int, vocabulary: int, subset: str = "train") -> None:
    """Write sentence pairs in the format of ``fairseq-preprocess --joined-dictionary``, from a fixed seed.

    Args:
        folder: where ``SUBSET.en-de.*`` and the dictionaries go.
        pairs: number of sentence pairs.
        vocabulary: size of the dictionary, special symbols included.
        subset: their name in fairseq: ``train``, ``test``.
    """
    rng = np.random.default_rng(1)
    # the mean of a log-normal distribution is exp(mu + sigma^2 / 2)
    source = rng.normal(math.log(MEAN_LENGTH) - LENGTH_DEVIATION**2 / 2, LENGTH_DEVIATION, pairs)
    target = source + rng.normal(-(RATIO_DEVIATION**2) / 2, RATIO_DEVIATION, pairs)
    words = vocabulary - SPECIAL_SYMBOLS
    for language, logarithms in (("en", source), ("de", target)):
        (folder / f"dict.{language}.txt").write_text("".join(f"w{word} 1\n" for word in range(words)))
        lengths = np.exp(logarithms).round().astype(int).clip(1, LONGEST)
        _write_sentences(folder / f"{subset}.en-de.{language}", lengths, vocabulary, rng)


def _write_sentences(prefix: Path, lengths: np.ndarray, vocabulary: int, rng: np.random.Generator) -> None:
    builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=vocabulary)
    for length in lengths:
        sentence = torch.from_numpy(rng.integers(SPECIAL_SYMBOLS, vocabulary, length + 1))
        sentence[-1] = 2  # the end symbol
        builder.add_item(sentence)
    builder.finalize(f"{prefix}.idx")

"""Binarized sentence pairs as flat arrays."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fairseq.data import Dictionary, data_utils
from fairseq.data.indexed_dataset import MMapIndexedDataset, dataset_exists

from b2t_common.errors import InputError


class Side(NamedTuple):
    """One side of all sentence pairs.

    Attributes:
        symbols: those of all sentences one after another, the end symbols included, ``(symbols,)``.
        lengths: of the sentences, ``(sentences,)``.
    """

    symbols: np.ndarray
    lengths: np.ndarray

    def starts(self) -> np.ndarray:
        """Return where each sentence begins, ``(sentences,)``."""
        return np.cumsum(self.lengths) - self.lengths


def read_dictionaries(data: Path, languages: tuple[str, str]) -> tuple[Dictionary, Dictionary]:
    """Return the dictionaries of source and target.

    Raises:
        InputError: one of them is missing.
    """
    files = [data / f"dict.{language}.txt" for language in languages]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: there is no such dictionary")
    source, target = (Dictionary.load(str(file)) for file in files)
    return source, target


def read_pairs(
    data: Path, subset: str, languages: tuple[str, str], dictionaries: tuple[Dictionary, Dictionary]
) -> tuple[Side, Side]:
    """Return source and target of a subset, with all its parts (``train``, ``train1``, ...) as fairseq trains on them.

    Raises:
        InputError: there is no such subset, or the sides have different numbers of sentences.
    """
    parts: list[tuple[Side, Side]] = []
    for number in count():
        name = f"{subset}{number or ''}"
        prefixes = (data / f"{name}.{'-'.join(pair)}" for pair in (languages, languages[::-1]))
        prefix = next((p for p in prefixes if dataset_exists(f"{p}.{languages[0]}", impl=None)), None)
        if prefix is None:
            break
        sides = [
            _read(f"{prefix}.{lang}", dictionary) for lang, dictionary in zip(languages, dictionaries, strict=True)
        ]
        if len(sides[0].lengths) != len(sides[1].lengths):
            numbers = " and ".join(str(len(side.lengths)) for side in sides)
            raise InputError(f"{prefix}: the two sides have {numbers} sentences; make the data again")
        parts.append((sides[0], sides[1]))
    if not parts:
        raise InputError(f"{data} has no {subset}.{'-'.join(languages)}.{languages[0]}.bin and .idx; see --subset")
    source, target = (Side(*map(np.concatenate, zip(*sides, strict=True))) for sides in zip(*parts, strict=True))
    return source, target


def _read(prefix: str, dictionary: Dictionary) -> Side:
    dataset = data_utils.load_indexed_dataset(prefix, dictionary)
    if dataset is None:
        raise InputError(f"{prefix}: there are no such data")
    lengths = np.asarray(dataset.sizes, dtype=np.int64)
    if isinstance(dataset, MMapIndexedDataset):
        # The sentences lie one after another in its file.  One by one they take a minute for ten million.  They are
        # copied, because the file is unmapped together with the data set.
        buffer, dtype = dataset._bin_buffer, dataset._index.dtype
        return Side(np.frombuffer(buffer, dtype=dtype, count=int(lengths.sum())).copy(), lengths)
    return Side(np.concatenate([dataset[number].numpy() for number in range(len(dataset))]), lengths)

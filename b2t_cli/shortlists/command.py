"""Learns the translations of symbols and writes the shortlist."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from b2t_common.errors import InputError
from b2t_fairseq import hub
from b2t_fairseq.decoding.shortlist import Shortlist
from b2t_fairseq.dictionaries import checksum

from .model_1 import Model1, best_translations
from .sentence_pairs import read_dictionaries, read_pairs


def write(
    data: Path,
    languages: tuple[str | None, str | None],
    subset: str,
    output: Path,
    best: int,
    frequent: int,
    iterations: int,
) -> list[str]:
    """Write a shortlist; return a report in lines.

    Args:
        data: the folder of binarized data.
        languages: source and target, ``None`` if the names of the files say them.
        subset: the sentence pairs to learn from.
        output: the file to write.
        best: how many translations each source symbol gets at most.
        frequent: how many of the most frequent target symbols are candidates for every source.
        iterations: how often the probabilities are improved.

    Raises:
        InputError: there are no such data.
    """
    start = time.perf_counter()
    pair = hub.languages(data, data, dict(zip(("source_lang", "target_lang"), languages, strict=True)))
    source, target = read_dictionaries(data, pair)
    sides = read_pairs(data, subset, pair, (source, target))
    for side, dictionary, language in zip(sides, (source, target), pair, strict=True):
        if len(side.symbols) and side.symbols.max() >= len(dictionary):
            raise InputError(f"{data}: {subset} has the symbol {side.symbols.max()}, which dict.{language}.txt lacks")
    model = Model1(*sides, len(source), len(target))
    for _ in range(iterations):
        model.iterate(first_symbol=target.nspecial)
    always = np.argsort(-model.occurrences[target.nspecial :], kind="stable")[:frequent] + target.nspecial
    table = best_translations(model, always, best, target.eos())
    shortlist = Shortlist(checksum(source), checksum(target), torch.from_numpy(table), torch.from_numpy(always))
    shortlist.write(output)
    mean = (table != target.eos()).sum(axis=1)[source.nspecial :].mean()
    return [
        f"{len(sides[0].lengths)} sentence pairs, {iterations} iterations: {time.perf_counter() - start:.0f} s",
        f"{output}: {mean:.0f} translations of a symbol on average, at most {best}, and {len(always)} frequent symbols",
    ]

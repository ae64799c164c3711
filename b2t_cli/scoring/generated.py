"""Reads what ``fairseq-generate`` prints."""

from __future__ import annotations

import re
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import read_lines


def read_generated(path: Path, expected: int) -> list[str]:
    """Return the best translation of each sentence, from fairseq's lines D-NUMBER, in the order of the corpus.

    Args:
        path: what ``fairseq-generate`` has printed.
        expected: the number of sentences.

    Raises:
        InputError: translations are missing or there are too many.
    """
    best: dict[int, str] = {}
    for line in read_lines(path):
        identifier, *rest = line.split("\t", 2)
        # the last line of a process that was killed may be incomplete
        if len(rest) == 2 and re.fullmatch(r"D-\d+", identifier):
            best.setdefault(int(identifier[2:]), rest[1])
    missing = [str(i) for i in range(expected) if i not in best]
    if missing or len(best) != expected:
        raise InputError(
            f"{path} has {len(best)} translations for {expected} references"
            + (f"; missing sentences: {', '.join(missing[:10])}" if missing else "")
            + "; generate with --required-batch-size-multiple 1 and without --skip-invalid-size-inputs-valid-test, "
            "or fairseq leaves sentences out"
        )
    return [best[i] for i in range(expected)]

"""The papers' results on newstest2010 to 2016 and on IWSLT14, from ``published.json``; that file explains its keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOKENIZED = "tokenized BLEU"
"""BLEU of lower-cased Moses tokens, as papers give it for IWSLT14; it is not comparable with BLEU of text."""
IWSLT14 = "iwslt14"
"""The name of the only test set of these results, and their kind in :func:`results`."""


def results(kind: str = "rows") -> list[dict[str, Any]]:
    """Return the papers' results.

    Args:
        kind: ``"rows"`` with scores on each newstest, ``"averages"`` over these sets only, or ``"iwslt14"``.
    """
    return _read()[kind]


def about(key: str = "about") -> str:
    """Return the sentence about how the papers' scores were measured: on newstest, or on ``"iwslt14"``."""
    return _read()["keys"][key]


def is_iwslt14(names: Sequence[str]) -> bool:
    """Return whether test sets with these names are those of the results on IWSLT14."""
    return list(names) == [IWSLT14]


def _read() -> dict[str, Any]:
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

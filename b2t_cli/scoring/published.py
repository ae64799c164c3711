"""The papers' results on newstest2010 to 2016, from ``published.json``; that file explains its keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def results(kind: str = "rows") -> list[dict[str, Any]]:
    """Return the papers' results: the ``"rows"`` with scores by test set, or those with ``"averages"`` only."""
    return _read()[kind]


def about() -> str:
    """Return the sentence about how the papers' scores were measured."""
    return _read()["keys"]["about"]


def _read() -> dict[str, Any]:
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

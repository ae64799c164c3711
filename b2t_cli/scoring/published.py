"""The papers' results on newstest2010 to 2016, as ``published.json`` holds them; that file says what its keys mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def results(kind: str = "rows") -> list[dict[str, Any]]:
    """Return the papers' ``"rows"``, with scores by set, or the ``"averages"`` of which nothing more is known."""
    return _read()[kind]


def about() -> str:
    """Return under which conditions the papers' scores were measured."""
    return _read()["keys"]["about"]


def _read() -> dict[str, Any]:
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

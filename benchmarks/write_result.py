"""Where a benchmark leaves what it measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_result(result: dict[str, Any], text: str, output: Path) -> None:
    """Write OUTPUT.json and the same as text in OUTPUT.md, each whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".json", json.dumps(result, indent=2) + "\n"), (".md", text)):
        unfinished = output.with_suffix(f"{suffix}.tmp{os.getpid()}")
        unfinished.write_text(content)
        unfinished.replace(output.with_suffix(suffix))

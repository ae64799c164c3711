"""Write the tables of results again from their numbers, after the words of a table have changed.

python -m benchmarks.rewrite_tables [--check]

With ``--check`` nothing is written; the exit status is 1 if a table is not what its numbers give.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from b2t_common.files import write_whole

ROOT = Path(__file__).resolve().parent.parent
RESULTS = [*sorted((ROOT / "benchmarks/results").rglob("*.json")), ROOT / "claims/results/speed.json"]


def current_table(result: dict[str, Any]) -> str:
    """Return what the benchmark that measured a result prints of it.

    Raises:
        ImportError: a package that the benchmark needs is missing.
    """
    # results from before version 0.2.0 name the file: python benchmarks/NAME.py
    name = re.match(r"python (?:-m )?benchmarks[./](\w+)", result["command"])[1]
    return importlib.import_module(f"benchmarks.{name}").markdown(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    outdated = {}
    for path in RESULTS:
        table = path.with_suffix(".md")
        text = current_table(json.loads(path.read_text(encoding="utf-8")))
        if text != table.read_text(encoding="utf-8"):
            outdated[table] = text.encode()
    if not args.check:
        write_whole(outdated)
    elif outdated:
        names = ", ".join(str(path.relative_to(ROOT)) for path in outdated)
        sys.exit(f"out of date: {names}; run python -m benchmarks.rewrite_tables")


if __name__ == "__main__":
    main()

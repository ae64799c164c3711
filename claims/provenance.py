"""Note what a run is made with: commit, date, machine, versions.

python -m claims.provenance FILE COMMAND

claims/run.sh calls this at every start of a run.  What differs from an earlier start is added to it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path

import torch

from b2t_cli.machine import processor
from b2t_common.files import write_whole

PROJECT = Path(__file__).resolve().parent.parent


def current() -> dict[str, str]:
    """Return what a run that starts now is made with."""
    describe = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty"]
    return {
        "commit": subprocess.run(describe, capture_output=True, text=True).stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"1 core of {processor()}",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def all_starts(earlier: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """Return for each key the values of earlier starts and of this one, different ones with commas between them."""
    return {key: ", ".join(dict.fromkeys([*earlier[key].split(", "), value])) for key, value in now.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="a JSON file, written again at each start")
    parser.add_argument("command", metavar="COMMAND", help="the command that trains the run")
    args = parser.parse_args()
    now = current()
    earlier = json.loads(args.file.read_text(encoding="utf-8")) if args.file.exists() else now
    content = {**all_starts(earlier, now), "command": args.command}
    write_whole({args.file: json.dumps(content).encode()})


if __name__ == "__main__":
    main()

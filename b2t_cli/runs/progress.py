#!/usr/bin/env python3
"""Turn fairseq's training log (standard input) into one short line per report.

progress.py TOTAL_UPDATES < log
"""

from __future__ import annotations

import re
import sys


def short(line: str, total: int) -> str | None:
    """Return what to show for a line of the log, ``None`` for nothing.

    Args:
        line: a line that fairseq logged with ``--log-format simple``.
        total: the number of updates to come to.
    """
    values = dict(re.findall(r"(\w+)[= ]([0-9.e+-]+)", line))
    if "| train_inner |" in line:
        update = int(values["num_updates"])
        return (
            f"update {update:6} of {total}   loss {float(values['loss']):6.3f}   "
            f"{float(values['wps']):7,.0f} target tokens/s   {float(values['wall']):5.0f} s"
        )
    if "valid on" in line:
        return f"    validation perplexity {float(values['ppl']):.2f} after {values['num_updates']} updates"
    if re.search(r"[Ee]rror|parameters \(", line):
        return line.split(" | ")[-1].rstrip()
    return None


def main() -> None:
    for line in sys.stdin:
        shown = short(line, int(sys.argv[1]))
        if shown is not None:
            print(shown, flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Turn fairseq's training log (standard input) into one short line per report.

python -m b2t_cli.runs.progress TOTAL_UPDATES < log
"""

from __future__ import annotations

import argparse
import math
import re
import sys

from b2t_common.model_line import parse_model_line

from .log import TRAINING, summary_report, training_report


def short(line: str, total: int) -> str | None:
    """Return what to show for a line of the log, ``None`` for nothing.

    Args:
        line: a line that fairseq logged with ``--log-format simple`` or ``json``.
        total: the number of updates that the training is to reach.
    """
    if report := training_report(line.encode()):
        loss, speed, seconds = (report.get(name, math.nan) for name in ("loss", "wps", "wall"))
        return (
            f"update {report['num_updates']:6.0f} of {total}   loss {loss:6.3f}   "
            f"{speed:7,.0f} target tokens/s   {seconds:5.0f} s"
        )
    if summary := summary_report(line.encode()):
        subset, report = summary
        if subset == TRAINING:
            return None
        bleu = f", BLEU {report['bleu']:.2f}" if "bleu" in report else ""
        perplexity = report.get("ppl", math.nan)
        return f"    validation perplexity {perplexity:.2f}{bleu} after {report['num_updates']:.0f} updates"
    if parse_model_line(line) or re.search(r"[Ee]rror", line):
        return line.split(" | ")[-1].rstrip()
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("total", type=int, metavar="TOTAL_UPDATES", help="updates that the training is to reach")
    total = parser.parse_args().total
    for line in sys.stdin:
        shown = short(line, total)
        if shown is not None:
            print(shown, flush=True)


if __name__ == "__main__":
    main()

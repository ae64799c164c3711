"""What benchmarks/any_cpu.sh measured on processors of both kinds, side by side."""

from __future__ import annotations

from pathlib import Path

from b2t_cli.tables import markdown_table
from benchmarks.cpu_summary import HEADLINES, NOT_MEASURED, measured

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results/cpu"
KINDS = {"avx2": "with AVX2", "avx512": "with AVX-512"}


def headlines_table() -> str:
    """Return a table of the goals and of what was measured, by kind of processor."""
    rows = [
        [
            headline.name,
            *(
                cell
                for kind, goal in zip(KINDS, headline.goals, strict=True)
                for cell in (measured(RESULTS / kind, headline), str(goal))
            ),
        ]
        for headline in HEADLINES
    ]
    header = ["times as fast", *(cell for name in KINDS.values() for cell in (name, "goal"))]
    return markdown_table(header, rows, "lrrrr")


def ratios(kind: str) -> str:
    """Return what was measured on a kind of processor, in one line, without the comparisons with CTranslate2."""
    found = {
        headline.name: measured(RESULTS / kind, headline)
        for headline in HEADLINES
        if "CTranslate2" not in headline.name
    }
    return "; ".join(f"{name}: {ratio}" for name, ratio in found.items() if ratio != NOT_MEASURED)

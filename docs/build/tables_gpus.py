"""What scripts/train.sh chooses on GPUs of different memory, and what benchmarks/gpu.sh measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from b2t_cli.tables import markdown_table
from benchmarks.activation_memory import read_configuration
from scripts.batch_size import choose, read_table

ROOT = Path(__file__).resolve().parents[2]

CONFIGURATIONS = ("vanilla", "cycle_rev_12", "cycle_rev_18", "universal", "big", "b2t_18l", "b2t_100l")
OWN_MAX_TOKENS, UPDATE = 3584, 458_752  # of these configurations
MEMORY = (8, 16, 24, 40, 80)  # GiB


def measured() -> str:
    """Return the summary of benchmarks/gpu.sh, or a sentence if it was not run on a GPU so far."""
    page = ROOT / "benchmarks/results/gpu/summary.md"
    return page.read_text(encoding="utf-8").strip() if page.is_file() else "Not run on a GPU so far."


def batch_sizes_table() -> str:
    """Return a table of ``--max-tokens`` on one GPU, by configuration and memory."""
    table, rows = read_table(), []
    for name in CONFIGURATIONS:
        model, _ = read_configuration(ROOT / f"configs/wmt14_en_de/{name}.sh")
        args = argparse.Namespace(max_tokens=OWN_MAX_TOKENS, update=UPDATE, processes=1, model=model)
        args.flags, args.training = [], ""
        cells = [f"[{name}](../configs/wmt14_en_de/{name}.sh)", f"{table[model].token_bytes / 1e3:,.0f} kB"]
        for gib in MEMORY:
            args.memory = gib * 1024
            fits = table[model].needed_bytes(OWN_MAX_TOKENS) <= gib * 2**30
            cells.append(f"{choose(args, table)[0]:,}" if fits else "does not fit")
        rows.append(cells)
    header = ["configuration", "kept for a token", *(f"{gib} GiB" for gib in MEMORY)]
    return markdown_table(header, rows, "l" + "r" * (len(header) - 1))

"""What the processor can do."""

from __future__ import annotations

from pathlib import Path


def computes_bfloat16() -> bool:
    """Return whether the processor has instructions for products in bfloat16, without which they are slow."""
    description = Path("/proc/cpuinfo")
    words = set(description.read_text().split()) if description.exists() else set()
    # x86 has the first two, ARM the last one.
    return not words.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})

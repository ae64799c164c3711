"""The name of the machine, for the notes below measured numbers."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cores() -> str:
    """Return how many cores this process may use, and of which processor."""
    return f"{len(os.sched_getaffinity(0))} cores of {processor()}"

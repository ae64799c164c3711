"""Let glibc keep the memory that a program has freed, so that the next tensors find it.

By default glibc asks the system for every large tensor anew and returns it when it is freed.  The system then clears
each page again, which takes more time than many operations on the tensor.
"""

from __future__ import annotations

import ctypes
import os

SWITCH = "B2T_KEEP_MEMORY"
"""The variable that switches this off, if its value is 0."""

_CHOSEN_BY_USER = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")

# from glibc's malloc.h: what mallopt sets
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# as a threshold it means that freed memory is never returned
_NEVER = -1


def keep_freed_memory() -> bool:
    """Set it for this process, unless the user has chosen; return whether it was set.

    Other allocators, such as jemalloc in ``LD_PRELOAD``, and other C libraries are left as they are.
    """
    chosen = any(name in os.environ for name in _CHOSEN_BY_USER) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if chosen or os.environ.get(SWITCH) == "0" or os.environ.get("LD_PRELOAD"):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (only glibc has it)
        mallopt = libc.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))

"""Freed memory is kept by default; the switch, a choice of the user, and other allocators stay as they are."""

import ctypes
import subprocess
import sys

import pytest
from helpers import ROOT

from b2t_common import memory

PAGES = """
import resource, sys
from b2t_common.memory import keep_freed_memory
import ctypes
print(keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(8):
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def has_glibc():
    return hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


@pytest.fixture
def calls(monkeypatch):
    """Record what is set, in an environment without a choice; nothing is set in this process."""
    for name in (memory.SWITCH, "GLIBC_TUNABLES", "LD_PRELOAD", *memory._CHOSEN_BY_USER):
        monkeypatch.delenv(name, raising=False)
    made = []
    library = type("Library", (), {"gnu_get_libc_version": None, "mallopt": lambda self, *args: made.append(args) or 1})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library())
    return made


def faulted_pages(**environment):
    """Return whether it was set, and the page faults of a process that takes and frees 64 MB eight times."""
    result = subprocess.run(
        [sys.executable, "-c", PAGES], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    is_set, faults = result.stdout.split()
    return is_set == "True", int(faults)


@pytest.mark.skipif(not has_glibc(), reason="this C library is not glibc")
def test_freed_memory_is_not_taken_anew():
    is_set, kept = faulted_pages()
    was_set, returned = faulted_pages(**{memory.SWITCH: "0"})
    assert (is_set, was_set) == (True, False)
    block = (64 << 20) // 4096
    assert kept < 2 * block
    assert returned > 7 * block


def test_both_limits_are_set(calls):
    assert memory.keep_freed_memory()
    assert calls == [(-4, 0), (-1, -1)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (memory.SWITCH, "0"),
        ("MALLOC_MMAP_MAX_", "4"),
        ("MALLOC_TRIM_THRESHOLD_", "1000000"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=4"),
        ("LD_PRELOAD", "libjemalloc.so"),
    ],
)
def test_a_choice_of_the_user_stays(calls, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not memory.keep_freed_memory()
    assert not calls


def test_another_c_library_is_left_alone(calls, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()

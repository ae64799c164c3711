"""A simulated GPU: in a child process PyTorch has a device ``cuda:0`` whose kernels are those of the CPU.

``simulated_cuda.cpp`` is the device.  It is compiled once for a version of PyTorch, and kept in the system's folder for
temporary files.  A process that has loaded it cannot go back, so each function runs in a process of its own; that one
is forked, and need not import fairseq again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

_SOURCE = Path(__file__).with_suffix(".cpp")
_SECONDS = 120
_GIGABYTE = 2**30


def build() -> Path:
    """Return the compiled device; skip the test if this machine cannot compile it."""
    if torch.version.cuda is not None:
        pytest.skip("the simulated GPU needs a PyTorch without CUDA")
    # Each optimizer imports it, which takes seconds; the processes that are forked find it.
    importlib.import_module("torch._dynamo")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("the simulated GPU needs a C++ compiler")
    content = hashlib.sha256(_SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"b2t-simulated-cuda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{content}.so"
    with open(folder / "lock", "w") as lock:
        # The processes of pytest-xdist wait for the one that compiles.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _compile(compiler, library)
    return library


def _compile(compiler: str, library: Path) -> None:
    root = Path(torch.__file__).parent
    unfinished = library.with_suffix(".unfinished")
    command = [compiler, "-O0", "-std=c++20", "-shared", "-fPIC", f"-I{root}/include", f"-L{root}/lib", str(_SOURCE)]
    done = subprocess.run([*command, "-ltorch_cpu", "-lc10", "-o", str(unfinished)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the simulated GPU cannot be compiled for torch {torch.__version__}: {done.stderr.strip()[:300]}")
    unfinished.rename(library)


def run_on_gpu(library: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process that has a simulated GPU.

    Args:
        library: the compiled device.
        function: called with the arguments; what it returns is sent as a pickle, so it is plain Python.
        arguments: its arguments.
    """
    return wait_for(start_on_gpu(library, function, *arguments))


def start_on_gpu(library: Path, function: Callable[..., Any], *arguments: Any) -> tuple:
    """Start a function in a process that has a simulated GPU; return what :func:`wait_for` takes."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, library, function, arguments))
    process.start()
    sender.close()
    return process, receiver


def wait_for(started: tuple) -> Any:
    """Return what a function returned that :func:`start_on_gpu` has started; fail with its traceback if it failed."""
    process, receiver = started
    assert receiver.poll(_SECONDS), f"no answer after {_SECONDS} seconds"
    try:
        result, error = receiver.recv()
    except EOFError:
        result, error = None, "the process died"
    process.join(_SECONDS)
    assert error is None, error
    return result


def _run(sender: Any, library: Path, function: Callable[..., Any], arguments: tuple) -> None:
    try:
        _load(library)
        answer = function(*arguments), None
    except BaseException:
        answer = None, traceback.format_exc()
    sender.send(answer)
    sender.close()
    # The threads of the backward pass do not end by themselves.
    os._exit(0)


def _load(library: Path) -> None:
    # The first backward pass starts PyTorch's threads, to which the library adds one.
    torch.ones(1, requires_grad=True).sum().backward()
    torch.ops.load_library(str(library))
    properties = SimpleNamespace(name="simulated GPU", major=9, minor=0, total_memory=80 * _GIGABYTE)
    numbers = {"device_count": 1, "current_device": 0, "max_memory_allocated": _GIGABYTE, "memory_allocated": 0}
    states = {
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "is_current_stream_capturing": False,
    }
    others = {
        "get_device_properties": properties,
        "get_device_capability": (properties.major, properties.minor),
        "get_device_name": properties.name,
        "get_rng_state": torch.zeros(8, dtype=torch.uint8),
        "device": contextlib.nullcontext(),
    }
    nothing = ["_lazy_init", "set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "set_rng_state"]
    nothing += ["manual_seed", "manual_seed_all"]
    for name, answer in {**numbers, **states, **others, **dict.fromkeys(nothing)}.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    for name in ("Double", "Byte"):
        dtype = getattr(torch, f"{name}Tensor").dtype
        setattr(torch.cuda, f"{name}Tensor", lambda *size, dtype=dtype: torch.empty(*size, dtype=dtype, device="cuda"))
    torch.Tensor.pin_memory = lambda self, *_: self

#!/usr/bin/env python3
"""Print what scripts/train.sh asks of a machine, in one line: how many GPUs are visible, whether all of them compute in
bf16 (True or False), a port that is free, the memory of the smallest GPU in MiB, and whether torch.compile can work for
all of them (True or False).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket

import torch

BF16 = (8, 0)  # the first compute capability with bf16
TRITON = (7, 0)  # the first one that Triton, which torch.compile needs, supports


def can_compile(capabilities: list[tuple[int, int]]) -> bool:
    """Return whether there is what torch.compile needs for GPUs of these compute capabilities."""
    # Triton compiles a small C program for each kernel that it starts
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    has_triton = importlib.util.find_spec("triton") is not None
    return bool(capabilities) and min(capabilities) >= TRITON and has_triton and compiler is not None


def main() -> None:
    gpus = range(torch.cuda.device_count())
    capabilities = [torch.cuda.get_device_capability(index) for index in gpus]
    memory = min((torch.cuda.get_device_properties(index).total_memory for index in gpus), default=0)
    has_bf16 = all(capability >= BF16 for capability in capabilities)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        print(len(gpus), has_bf16, free.getsockname()[1], memory // 2**20, can_compile(capabilities))


if __name__ == "__main__":
    main()

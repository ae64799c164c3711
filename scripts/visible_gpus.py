#!/usr/bin/env python3
"""Print how many GPUs are visible, whether all of them compute in bf16 (True or False), and a port that is free."""

from __future__ import annotations

import socket

import torch


def main() -> None:
    count = torch.cuda.device_count()
    # bf16 came with compute capability 8.0
    has_bf16 = all(torch.cuda.get_device_capability(index) >= (8, 0) for index in range(count))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        print(count, has_bf16, free.getsockname()[1])


if __name__ == "__main__":
    main()

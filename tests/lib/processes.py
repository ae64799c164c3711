"""Training by two real processes."""

import logging
import multiprocessing
import shlex
import socket

import torch
from training import train

from b2t_cli.train import main as b2t_train


def _train_as_rank(rank, log, *arguments):
    # a GPU that the tests' own process has used cannot be used in a forked one, and fairseq would try it
    torch.cuda.is_available = lambda: False
    logging.getLogger().addHandler(logging.FileHandler(log))
    train(*arguments, "--distributed-rank", str(rank), command=b2t_train)


def two_processes(data, save_dir, *flags):
    """Train by two processes that communicate over gloo; return the lines that rank 0 logged."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    distributed = shlex.split("--distributed-no-spawn --distributed-backend gloo --distributed-world-size 2")
    distributed += ["--distributed-init-method", f"tcp://127.0.0.1:{port}"]
    # Forked processes need not import fairseq again.
    context = multiprocessing.get_context("fork")
    logs = [save_dir.with_name(f"rank{rank}.log") for rank in range(2)]
    processes = [
        context.Process(target=_train_as_rank, args=(rank, logs[rank], data, save_dir, *flags, *distributed))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0], logs[0].read_text()
    lines = logs[0].read_text().splitlines()
    logs[0].unlink()
    return lines

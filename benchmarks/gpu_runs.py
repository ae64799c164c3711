"""Whole runs of ``b2t train`` for ``gpu_checks``: stopped and continued, in two processes, and their memory."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import multiprocessing
import socket
import sys
import tempfile
from pathlib import Path

import torch
from fairseq import checkpoint_utils

from b2t_cli import train
from b2t_common import run_folder
from b2t_fairseq import checkpoints
from benchmarks import trainers
from benchmarks.activation_memory import count
from benchmarks.synthetic_corpus import write_corpus
from benchmarks.training_runs import longest_batch, measure_memory, start

UPDATES, STOPPED_AFTER = 12, 6
SENTENCES = 24  # in a batch of one process
PAIRS = 400

_TRAINING = "--share-all-embeddings --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1 "
_TRAINING += "--optimizer adam_fused --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 4 --clip-norm 0.1"
_RUN = "--num-workers 0 --required-batch-size-multiple 1 --seed 1 --disable-validation --no-epoch-checkpoints "
_RUN += "--log-format none --distributed-world-size"

Model = dict[str, torch.Tensor]


def model_flags(args: argparse.Namespace, dropout: float) -> list[str]:
    """Return the flags of a B2T model of the size that ``args`` gives, and of its training."""
    size = trainers.model_flags("b2t_transformer", args.layers, args.width, dropout)
    return [*size, "--residual", "b2t", *_TRAINING.split()]


def run(data: str, folder: Path, flags: list[str], args: argparse.Namespace, processes: int = 1) -> Model:
    """Train, or continue, a run in a folder, and return the weights of its last checkpoint."""
    command = [data, *flags, *_RUN.split(), str(processes), "--save-dir", str(folder)]
    command += ["--cpu"] if args.device == "cpu" else []
    if processes == 1:
        train_quietly(command)
    else:
        _train_in_two_processes(command, args.device)
    return checkpoints.load(folder / run_folder.LAST_CHECKPOINT)["model"]


def train_quietly(command: list[str]) -> None:
    """Call ``b2t train`` in this process, which may train several runs one after the other."""
    if hasattr(checkpoint_utils.save_checkpoint, "best"):
        del checkpoint_utils.save_checkpoint.best  # fairseq keeps it between the runs of a process
    handlers, arguments = list(logging.getLogger().handlers), sys.argv
    with contextlib.redirect_stdout(io.StringIO()):
        status = train.main(command)
    logging.getLogger().handlers[:], sys.argv = handlers, arguments
    if status:
        raise RuntimeError(f"b2t train ended with status {status}")


def _train_in_two_processes(command: list[str], device: str) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"tcp://localhost:{free.getsockname()[1]}"
    command = [*command, "--distributed-no-spawn", "--distributed-init-method", address]
    command += ["--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"] if device == "cpu" else []
    # A forked process need not import fairseq again, but cannot use a GPU.
    context = multiprocessing.get_context("fork" if device == "cpu" else "spawn")
    ranks = [[*command, "--distributed-rank", str(rank), "--device-id", str(rank)] for rank in range(2)]
    processes = [context.Process(target=train_quietly, args=(flags,)) for flags in ranks]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if statuses := [process.exitcode for process in processes if process.exitcode]:
        raise RuntimeError(f"a process of two ended with status {statuses[0]}, see above")


def largest_difference(model: Model, other: Model) -> float:
    """Return the largest difference of a weight of two models."""
    pairs = [(model[name].double(), other[name].double()) for name in model if model[name].numel()]
    return max(float((tensor - expected).abs().max()) for tensor, expected in pairs)


def distances_of_resumed(args: argparse.Namespace) -> tuple[float, float]:
    """Return the largest difference that a stop makes to a bf16 run, and that of two runs without a stop."""
    flags = [*model_flags(args, dropout=0.1), "--bf16", "--batch-size", str(SENTENCES), "--max-update"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_corpus(folder, PAIRS, args.vocabulary)
        first, second = (run(temporary, folder / name, [*flags, str(UPDATES)], args) for name in ("first", "second"))
        run(temporary, folder / "stopped", [*flags, str(STOPPED_AFTER)], args)
        resumed = run(temporary, folder / "stopped", [*flags, str(UPDATES)], args)
    return largest_difference(resumed, first), largest_difference(second, first)


def distance_of_two_processes(args: argparse.Namespace) -> float:
    """Return the largest difference of a weight between training by two processes and by one."""
    flags = [*model_flags(args, dropout=0.0), "--batch-size", str(SENTENCES), "--max-update", str(UPDATES)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_corpus(folder, PAIRS, args.vocabulary)
        one = run(temporary, folder / "one", [*flags, "--update-freq", "2"], args)
        two = run(temporary, folder / "two", flags, args, processes=2)
    return largest_difference(two, one)


def peak_and_count(args: argparse.Namespace) -> tuple[int, int, int]:
    """Return the largest memory of an update in bytes, the count of it, and the memory of the GPU, 0 on a CPU."""
    flags = [*model_flags(args, dropout=0.1), "--bf16", "--required-batch-size-multiple", "1"]
    row = count(["--task", "translation", *flags])
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), max(PAIRS, args.max_tokens // 5), args.vocabulary)
        # with the --compile that scripts/train.sh adds
        compiled = ["--compile"] if args.device == "cuda" else []
        training = start("b2t", folder, [*flags, *compiled], args.device, args.max_tokens)
        measure_memory(training, [longest_batch(training.trainer, args.max_tokens)], args.max_tokens, args.device)
    total = torch.cuda.get_device_properties(0).total_memory if args.device == "cuda" else 0
    return training.peak_bytes, row.needed_bytes(args.max_tokens), total

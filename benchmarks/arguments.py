"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows ``--output`` and prints the description as it is written."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    return parser


def add_model_size(parser: argparse.ArgumentParser, layers: int = 6, width: int = 512, vocabulary: int = 32768) -> None:
    """Add ``--layers``, ``--width`` and ``--vocabulary``, with these defaults."""
    parser.add_argument("--layers", type=int, default=layers, help="layers of the encoder, and of the decoder")
    parser.add_argument("--width", type=int, default=width, help="embedding dimension")
    parser.add_argument("--vocabulary", type=int, default=vocabulary, help="symbols in the joined dictionary")


def add_rounds(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Add ``--rounds`` with this default."""
    parser.add_argument("--rounds", type=int, default=rounds, help="how often everything is timed")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``, by default as many as there are cores for this process."""
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of PyTorch on the CPU")


def add_processor_time(parser: argparse.ArgumentParser) -> None:
    """Add ``--processor-time``."""
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the time of the processor, which other work on the machine changes little; with --threads 1",
    )


def default_device() -> str:
    """Return ``cuda`` if there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def model_size(args: argparse.Namespace) -> str:
    """Return what :func:`add_model_size` added, in words."""
    return f"{args.layers}-{args.layers} layers, width {args.width}, vocabulary {args.vocabulary}"

"""What the benchmarks do in one way: turns, times, ratios and their spread, peak memory, origin of the numbers."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from machine import processor

import b2t_fairseq

# the profiler would print a line when it starts and when it stops
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

Compared = TypeVar("Compared")


def machine(device: str) -> str:
    """Describe where the numbers come from."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} cores of {processor()}"
    return (
        f"{where}, torch {torch.__version__}, Python {platform.python_version()}, b2t_fairseq {b2t_fairseq.__version__}"
    )


def in_turn(compared: Sequence[Compared], turn: int) -> list[Compared]:
    """Return what is compared in the order of a round: over as many rounds as there are of them each is first once."""
    first = turn % len(compared)
    return [*compared[first:], *compared[:first]]


def seconds(step: Callable[[], None], device: str) -> float:
    """Return the time of one step."""
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def times_in_turn(
    steps: Mapping[str, Callable[[], None]], warmup: int, rounds: int, device: str
) -> dict[str, list[float]]:
    """Return the time of each step in each round, after some that do not count."""
    for step in steps.values():
        for _ in range(warmup):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds):
        for name in in_turn(list(steps), turn):
            times[name].append(seconds(steps[name], device))
    return times


def ratios(numbers: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the ratio of the numbers to the others within each round."""
    return [number / other for number, other in zip(numbers, others, strict=True)]


def median_and_quartiles(values: Sequence[float]) -> tuple[float, list[float]]:
    """Return the median, and the lower and the upper quartile."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return statistics.median(values), [low, high]


def standing_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of weights and Adam's two moments, all of the weights' precision, tied ones once."""
    return 3 * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def peak_growth(step: Callable[[], None], device: str) -> int:
    """Return by how many bytes the fullest moment of a step exceeds what was in use before it.

    There must be no gradients before it: on a CPU nothing tells of what was there before and is freed in the step.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    current = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        current += change.nbytes()
        peak = max(peak, current)
    return peak

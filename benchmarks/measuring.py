"""What all benchmarks measure in the same way: times, ratios and their spread, peak memory, the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

import b2t_fairseq
from b2t_cli.machine import processor
from b2t_fairseq.kernels import quantized
from scripts.gpu_driver import visible_gpus

Item = TypeVar("Item")

# With them a processor does as an older one.
_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "FBGEMM_ENABLE_INSTRUCTIONS", "MKL_ENABLE_INSTRUCTIONS")


def hardware(device: str) -> str:
    """Return in words what computes: GPUs with their memory, their driver and CUDA, or cores."""
    if device == "cpu":
        cores = "core" if torch.get_num_threads() == 1 else "cores"
        return f"{torch.get_num_threads()} {cores} of {processor()} ({instructions()})"
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    driver = next((version for version, *_ in visible_gpus()), "not known")
    gpus = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()} with {memory:.0f} GiB"
    return f"{gpus}, driver {driver}, CUDA {torch.version.cuda}, {processor()}"


def machine(device: str) -> str:
    """Return in words what the numbers were measured on, and with which versions."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, b2t_fairseq {b2t_fairseq.__version__}"
    return f"{hardware(device)}, {versions}"


def instructions() -> str:
    """Return in words which instructions PyTorch's libraries use on this processor, and what limits them."""
    widest = torch.backends.cpu.get_cpu_capability()
    if quantized.engine_name() is not None:
        widest += " with VNNI" if quantized.largest_weight() == 127 else " without VNNI"
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    return ", ".join([widest, *(["limited by " + " ".join(limits)] if limits else [])])


def in_turn(items: Sequence[Item], turn: int) -> list[Item]:
    """Return the items in the order of a round.  Each round starts with the next item, so that none is always first."""
    first = turn % len(items)
    return [*items[first:], *items[:first]]


def seconds(step: Callable[[], None], device: str) -> float:
    """Return the time that one step takes."""
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def processor_seconds(step: Callable[[], object]) -> float:
    """Return the processor time that one step takes."""
    before = time.process_time()
    step()
    return time.process_time() - before


def rounds_in_turn(
    measurements: Mapping[str, Callable[[], float]], rounds: int, warmup: int = 0
) -> dict[str, list[float]]:
    """Call every measurement once in each round, and return what it returned, by name and round.

    Args:
        measurements: functions that return a number, such as seconds.
        rounds: how many rounds count.
        warmup: rounds before them that do not count.
    """
    numbers: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(warmup + rounds):
        for name in in_turn(list(measurements), turn):
            numbers[name].append(measurements[name]())
    return {name: values[warmup:] for name, values in numbers.items()}


def times_in_turn(
    steps: Mapping[str, Callable[[], None]], warmup: int, rounds: int, device: str
) -> dict[str, list[float]]:
    """Return the time of every step in each round; before the first round each step runs ``warmup`` times."""
    for step in steps.values():
        for _ in range(warmup):
            step()
    return rounds_in_turn({name: lambda step=step: seconds(step, device) for name, step in steps.items()}, rounds)


def ratios(numbers: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return, for each round, the ratio of the number to the other one."""
    return [number / other for number, other in zip(numbers, others, strict=True)]


def median_and_quartiles(values: Sequence[float]) -> tuple[float, list[float]]:
    """Return the median, and a list of the lower and the upper quartile."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return statistics.median(values), [low, high]


def parameter_count(model: torch.nn.Module) -> int:
    """Return the number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def standing_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of the weights and of Adam's two moments, both in the precision of the weights."""
    return 3 * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def peak_growth(step: Callable[[], None], device: str) -> int:
    """Return the peak memory of a step, in bytes, minus what was in use before it.

    There must be no gradients before the step: a CPU's profiler does not see that the step frees older memory.
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

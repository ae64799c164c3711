"""The peak of a device: how many floating-point operations it can do in a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

# as the vendor states it for dense matrix products in bfloat16
_GPUS = {
    "NVIDIA H200": 989.4e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
}

_SIDE = 2048  # of the square matrices that are multiplied on a CPU
_REPETITIONS = 10


def peak_flops(device: str) -> tuple[float | None, str]:
    """Return the peak in FLOPs a second, ``None`` if it is not known, and its source in words."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
        return _GPUS.get(name), f"the vendor's peak of {name} in dense bfloat16"
    return (
        measured_peak_flops(),
        f"the fastest of {_REPETITIONS} float32 products of {_SIDE} x {_SIDE} matrices by MKL and oneDNN in this run",
    )


def measured_peak_flops() -> float:
    """Return the FLOPs a second of a float32 matrix product on the CPU: the fastest one of two libraries."""
    return max(measured_peaks().values())


def measured_peaks(clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Return the FLOPs a second of the fastest float32 product on the CPU, by library.

    Args:
        clock: returns seconds.
    """
    x, weight = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)

    def by_mkl() -> None:
        torch.mm(x, weight)

    def by_onednn() -> None:
        # on AMD's processors oneDNN uses AVX-512, which MKL does not
        torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    peaks = {}
    for library, product in (("MKL", by_mkl), ("oneDNN", by_onednn)):
        times = []
        for _ in range(_REPETITIONS):
            start = clock()
            product()
            times.append(clock() - start)
        peaks[library] = 2 * _SIDE**3 / min(times)
    return peaks

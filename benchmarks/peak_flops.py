"""The most floating-point operations that a device does in a second."""

from __future__ import annotations

import time

import torch

# the vendor's, of dense bfloat16 matrix products
_GPUS = {
    "NVIDIA H200": 989.4e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
}

_SIDE = 2048
_REPETITIONS = 10


def peak_flops(device: str) -> tuple[float | None, str]:
    """Return the peak in FLOPs a second, ``None`` if unknown, and in words where it comes from."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
        return _GPUS.get(name), f"the vendor's peak of {name} in dense bfloat16"
    return (
        measured_peak_flops(),
        f"the fastest of {_REPETITIONS} float32 products of {_SIDE} x {_SIDE} matrices by MKL and oneDNN in this run",
    )


def measured_peak_flops() -> float:
    """Return the FLOPs a second of the fastest float32 matrix product on the CPU, of two libraries."""
    x, weight = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)

    def by_mkl() -> None:
        torch.mm(x, weight)

    def by_onednn() -> None:
        # on AMD's processors MKL leaves AVX-512 unused, oneDNN does not
        torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    times = []
    for product in (by_mkl, by_onednn):
        for _ in range(_REPETITIONS):
            start = time.perf_counter()
            product()
            times.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / min(times)

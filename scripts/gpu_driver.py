#!/usr/bin/env python3
"""Say why PyTorch cannot use the GPUs that nvidia-smi shows, and which PyTorch to install; print nothing if it can.

    gpu_driver.py             the installed PyTorch
    gpu_driver.py --default   the PyTorch that pip installs from PyPI, which is built for CUDA 13

The limits are NVIDIA's: CUDA 13 needs driver 580 and compute capability 7.5 (a V100 has 7.0), CUDA 12 needs driver 525.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

DEFAULT_CUDA = 13
OLDEST_DRIVER = {12: 525, 13: 580}
OLDEST_CAPABILITY = {13: (7, 5)}
_QUERY = ["nvidia-smi", "--query-gpu=driver_version,compute_cap,name", "--format=csv,noheader"]
_CUDA_12 = "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cu126 B2T_TORCH=torch==2.13.0+cu126"


def installed_cuda() -> int | None:
    """Return for which CUDA the installed PyTorch is built, 0 if for none, ``None`` if there is no PyTorch.

    PyTorch is not imported, which would take seconds.
    """
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    text = Path(spec.submodule_search_locations[0], "version.py").read_text(encoding="utf-8")
    version = re.search(r"^cuda\b[^=]*= '(\d+)", text, flags=re.MULTILINE)
    return int(version[1]) if version else 0


def visible_gpus() -> list[tuple[str, tuple[int, int], str]]:
    """Return driver version, compute capability and name of each GPU that nvidia-smi shows."""
    if shutil.which("nvidia-smi") is None:
        return []
    answer = subprocess.run(_QUERY, capture_output=True, text=True)
    rows = re.findall(r"^([\d.]+), (\d+)\.(\d+), (.+)$", answer.stdout, flags=re.MULTILINE)
    return [(driver, (int(major), int(minor)), name) for driver, major, minor, name in rows]


def advice(cuda: int, gpus: list[tuple[str, tuple[int, int], str]]) -> str | None:
    """Return what hinders a PyTorch that is built for ``cuda`` and what to do, ``None`` if nothing does."""
    for driver, capability, name in gpus:
        number = int(driver.split(".")[0])
        if cuda == 0:
            return f"This PyTorch is built for CPUs only, but nvidia-smi shows a GPU ({name})."
        if number < OLDEST_DRIVER[12]:
            return f"NVIDIA's driver {driver} is older than {OLDEST_DRIVER[12]}, which CUDA 12 needs. Update it."
        if number < OLDEST_DRIVER.get(cuda, 0):
            what = f"NVIDIA's driver {driver} is older than {OLDEST_DRIVER[cuda]}, which PyTorch for CUDA {cuda} needs."
            return f"{what} Update the driver, or install PyTorch for CUDA 12:\n{_CUDA_12} bash scripts/setup.sh"
        if capability < OLDEST_CAPABILITY.get(cuda, (0, 0)):
            needed = ".".join(map(str, OLDEST_CAPABILITY[cuda]))
            what = f"{name} has compute capability {capability[0]}.{capability[1]}, and CUDA {cuda} needs {needed}."
            return f"{what} Install PyTorch for CUDA 12:\n{_CUDA_12} bash scripts/setup.sh"
    return None


def main() -> None:
    is_installed = "--default" not in sys.argv[1:]
    cuda = installed_cuda() if is_installed else DEFAULT_CUDA
    if cuda is not None and (text := advice(cuda, visible_gpus())):
        print(text)
        if is_installed:
            print("(setup.sh keeps a PyTorch that is there; before it: python -m pip uninstall torch)")


if __name__ == "__main__":
    main()

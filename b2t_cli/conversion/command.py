"""What ``b2t convert`` does: reads a checkpoint, converts it and writes the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from b2t_common.errors import InputError
from b2t_common.files import require_file, require_prefix
from b2t_fairseq import checkpoints

from . import export, pre_rms_norm, release, stock
from .reading import read

_CONVERSIONS = {"stock": stock.to_stock, "pre_rms_norm": pre_rms_norm.to_pre_rms_norm}


def convert(checkpoint: Path, output: Path, target: str, retie: bool) -> list[str]:
    """Convert a checkpoint, check the result against the original, and return a report in lines.

    Args:
        checkpoint: of either paper's release, or of this plugin.
        output: the file to write.
        target: ``"plugin"``, ``"stock"``, ``"pre_rms_norm"`` or ``"safetensors"``.
        retie: share the cross-attention biases of the sharing release too.

    Raises:
        InputError: the checkpoint cannot be read, or cannot be expressed in the other format.
    """
    files = export.files(output) if target == "safetensors" else (output,)
    if checkpoint.exists() and any(path.exists() and path.samefile(checkpoint) for path in files):
        raise InputError(f"{output} is the checkpoint itself; give another file to write")
    (require_prefix if target == "safetensors" else require_file)(output)
    state = read(checkpoint)
    try:
        report = _write(state, output, target, retie)
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from None
    return [*report, *map(str, files)]


def _write(state: Mapping[str, Any], output: Path, target: str, retie: bool) -> list[str]:
    report: list[str] = []
    if target == "plugin" or release.is_release(state):
        state, report = release.convert(state, retie)
    elif retie:
        raise InputError("--retie is for checkpoints of the sharing release; this one is of this plugin")
    if target == "safetensors":
        return report + export.save(state, output)
    if target in _CONVERSIONS:
        state, more = _CONVERSIONS[target](state)
        report += more
    checkpoints.save(state, output)
    return report

"""What ``b2t convert`` does: reads a checkpoint, converts it and writes the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from b2t_common.errors import InputError
from b2t_common.files import is_one_of, require_file, require_prefix
from b2t_common.names import flag
from b2t_fairseq import checkpoints

from . import export, pre_rms_norm, release, stock
from .hugging_face import conversion as hugging_face
from .hugging_face.folder import require_new_folder
from .reading import read

_CONVERSIONS = {"stock": stock.to_stock, "pre_rms_norm": pre_rms_norm.to_pre_rms_norm}


def convert(
    checkpoint: Path, output: Path, target: str, retie: bool, tokenizer: Mapping[str, Any] | None = None
) -> list[str]:
    """Convert a checkpoint, check the result against the original, and return a report in lines.

    Args:
        checkpoint: of either paper's release, or of this plugin.
        output: the file, or the folder, to write.
        target: ``"plugin"``, ``"stock"``, ``"pre_rms_norm"``, ``"safetensors"``, ``"transformers"`` or ``"fsmt"``.
        retie: share the cross-attention biases of the sharing release too.
        tokenizer: ``data``, ``source_lang`` and ``target_lang`` where they are given, for the last two targets.

    Raises:
        InputError: the checkpoint cannot be read, or cannot be expressed in the other format.
    """
    given = {name: value for name, value in (tokenizer or {}).items() if value is not None}
    if target in hugging_face.TARGETS:
        return _to_folder(checkpoint, output, target, retie, given)
    for name, value in given.items():
        raise InputError(f"{flag(name)} {value} has no effect with --to {target}, which writes no tokenizer; drop it")
    files = export.files(output) if target == "safetensors" else (output,)
    if is_one_of(checkpoint, files):
        raise InputError(f"{output} is the checkpoint itself; give another file to write")
    (require_prefix if target == "safetensors" else require_file)(output)
    state = read(checkpoint)
    try:
        report = _write(state, output, target, retie)
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from None
    return [*report, *map(str, files)]


def _to_folder(checkpoint: Path, folder: Path, target: str, retie: bool, tokenizer: Mapping[str, Any]) -> list[str]:
    require_new_folder(folder)
    original = read(checkpoint)
    try:
        state, report = _of_plugin(original, retie)
        written = hugging_face.model_files(state, target)
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from None
    return [*report, *hugging_face.write_folder(written, state, checkpoint, folder, tokenizer)]


def _of_plugin(state: Mapping[str, Any], retie: bool) -> tuple[Mapping[str, Any], list[str]]:
    """Return a checkpoint as one of this plugin, and a report in lines, empty if it was one."""
    if release.is_release(state):
        return release.convert(state, retie)
    if retie:
        raise InputError("--retie is for checkpoints of the sharing release; this one is of this plugin")
    return state, []


def _write(state: Mapping[str, Any], output: Path, target: str, retie: bool) -> list[str]:
    state, report = release.convert(state, retie) if target == "plugin" else _of_plugin(state, retie)
    if target == "safetensors":
        return report + export.save(state, output)
    if target in _CONVERSIONS:
        state, more = _CONVERSIONS[target](state)
        report += more
    checkpoints.save(state, output)
    return report

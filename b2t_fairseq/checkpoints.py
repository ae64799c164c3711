"""Reading, comparing and writing fairseq's checkpoint files, whole or not at all."""

from __future__ import annotations

import dataclasses
import pickle
import re
import shutil
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from b2t_common.errors import InputError
from b2t_common.files import replacing, require_file
from b2t_common.names import STACKS

from .normalization import DEFAULT
from .positions import POSITIONS
from .residual import scheme_title, stock_scheme
from .settings.fields import B2TLanguageModelConfig, B2TTransformerConfig
from .settings.stock import SPEECH_INPUT, fill_derived
from .settings.validation import PROBABILITIES

# Older checkpoints hold all of fairseq's settings in one namespace; these are the model's.
_MODEL_FIELDS = frozenset(SPEECH_INPUT).union(
    field.name for config in (B2TTransformerConfig, B2TLanguageModelConfig) for field in dataclasses.fields(config)
)

EXECUTION_SETTINGS = frozenset({"kernels", "compile"})
"""Settings that say how a model is computed; they change nothing but rounding."""

# Settings that may change when a run continues, because the model's function at inference stays the same.
_MAY_CHANGE = (
    frozenset(PROBABILITIES)
    | EXECUTION_SETTINGS
    | {
        "_name",
        "checkpoint_activations",
        "offload_activations",
        "min_params_to_wrap",
        "init",
        "depth_scaled_init",
        "branch_norm_updates",
        "power_norm_warmup",
        "shape_offsets",
        "encoder_embed_path",
        "decoder_embed_path",
        "max_source_positions",
        "max_target_positions",
        "tokens_per_sample",
        "tpu",
    }
)


def load(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU; tensors are read from the file when they are used.

    Raises:
        InputError: there is no such file, it is cut short, is no checkpoint, or holds something that would have to
            run code to be restored; nothing of it is run.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        with open(path, "rb") as file:
            before_1_6 = file.read(1) == pickle.PROTO  # torch's format before it became a zip archive
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=not before_1_6)
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        reason = f": {forbidden[1]} in it might run code" if forbidden else ""
        raise InputError(
            f"{path} holds more than tensors and settings, so it is not opened{reason}. Convert it where you trust "
            "it, or ask its author for a file that torch.load(weights_only=True) reads; b2t convert opens those of the "
            "papers' releases"
        ) from None
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # half a pickle can raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is not a whole checkpoint ({reason}); use an earlier one") from None
    if not isinstance(state, dict) or not isinstance(state.get("model"), Mapping):
        raise InputError(f"{path} is not a fairseq checkpoint: it has no model")
    return state


def model_settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat model settings stored in a checkpoint, empty if it has none."""
    cfg = state.get("cfg")
    if cfg is not None and cfg.get("model") is not None:
        return flat_settings(cfg["model"])
    return flat_settings(state["args"]) if state.get("args") is not None else {}


def task_settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat settings of the task stored in a checkpoint, empty if it has none."""
    return flat_settings((state.get("cfg") or {}).get("task") or {})


def flat_settings(settings: DictConfig | Namespace | Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a model or a task, however fairseq holds them, as a dictionary."""
    if isinstance(settings, DictConfig):
        return dict(OmegaConf.to_container(settings, resolve=True, enum_to_str=True))  # type: ignore[arg-type]
    return dict(vars(settings) if isinstance(settings, Namespace) else settings)


def with_changes(settings: DictConfig | Namespace | Mapping[str, Any], changed: Mapping[str, Any]) -> Any:
    """Return a copy of settings with other values of some, a namespace if they are one, otherwise a dictionary."""
    flat = {**flat_settings(settings), **changed}
    return Namespace(**flat) if isinstance(settings, Namespace) else flat


def differing_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings, known to both, that make two models different functions: name to both values."""
    ours, theirs = _normalized(ours), _normalized(theirs)
    return {
        name: (ours[name], theirs[name])
        for name in sorted((ours.keys() & theirs.keys() & _MODEL_FIELDS) - _MAY_CHANGE)
        if ours[name] != theirs[name]
    }


def _normalized(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Spell settings that mean the same in the same way."""
    settings = dict(settings)
    normalize_before = settings.pop("decoder_normalize_before", False)
    normalize_before = bool(settings.pop("encoder_normalize_before", normalize_before))
    # a language model has none
    settings.setdefault("encoder_embed_dim", None)
    # fairseq's own transformer has that flag in place of a scheme
    settings.setdefault("residual", stock_scheme(normalize_before).name)
    settings["residual"] = scheme_title(settings["residual"])
    settings.setdefault("norm", DEFAULT)
    for name in ("rms_norm_bias", "center_embedding"):
        settings.setdefault(name, False)
    if positions := settings.pop("positions", None):
        for stack in STACKS:
            settings[f"{stack}_learned_pos"] = POSITIONS[positions].is_learned
    fill_derived(settings)
    if settings.get("share_all_embeddings"):
        settings["share_decoder_input_output_embed"] = True
    return {name: None if value in ("", []) else value for name, value in settings.items()}


def save(state: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint under a temporary name in the same folder, then rename it.

    Raises:
        InputError: the folder is missing, or the path is a folder.
        OSError: the disk is full; an existing file of that name is left as it was.
    """
    path = Path(path)
    require_file(path)
    try:
        with replacing(path) as (unfinished,), open(unfinished, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        # torch reports a failed write of the archive as a RuntimeError.
        raise OSError(f"{path} could not be written ({error}); is the disk full?") from error


def copy_whole(source: str, target: str, overwrite: bool = False) -> bool:
    """Copy a file so that the target is either the old file or the whole new one, in place of fairseq's own copy."""
    # a link in place of a run's checkpoint may lead to the checkpoint of another run
    with replacing(Path(target), follow_links=False) as (unfinished,):
        shutil.copyfile(source, unfinished)
    return True


def tied_groups(tensors: Mapping[str, Tensor], candidates: Iterable[list[str]] | None = None) -> list[list[str]]:
    """Group the names of equal tensors: tied parameters, however often a checkpoint stores them.

    Args:
        tensors: a checkpoint's model.
        candidates: groups found in an earlier checkpoint of the same model; only these are split further.
    """
    groups = []
    for candidate in [list(tensors)] if candidates is None else candidates:
        buckets: dict[tuple, list[list[str]]] = {}
        for name in candidate:
            tensor = tensors[name]
            key = (tensor.dtype, tuple(tensor.shape), tensor.double().sum().item())
            equals = buckets.setdefault(key, [])
            for group in equals:
                if tensors[group[0]].equal(tensor):
                    group.append(name)
                    break
            else:
                equals.append([name])
        groups += [group for equals in buckets.values() for group in equals]
    return groups

"""Writes and reads weights as safetensors, each tied parameter once, and the settings as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from b2t_common.errors import InputError
from b2t_common.files import require_prefix, write_whole
from b2t_common.names import STACKS

from .building import build, settings_of

FORMAT = "b2t_fairseq 1"


def files(output: Path) -> tuple[Path, Path]:
    """Return the paths of the weights and of the settings; the given path may lack the ending ``.safetensors``."""
    stem = output.name.removesuffix(".safetensors")
    return output.with_name(f"{stem}.safetensors"), output.with_name(f"{stem}.json")


def save(state: Mapping[str, Any], output: Path) -> list[str]:
    """Write OUTPUT.safetensors and OUTPUT.json, both or none; return a report in lines.

    Args:
        state: a checkpoint of this plugin.
        output: the path, with or without ``.safetensors``.

    Raises:
        InputError: the checkpoint is of another model, or the folder or the package ``safetensors`` is missing.
    """
    safetensors = _safetensors()
    require_prefix(output)
    settings = settings_of(state)
    model = build(settings, state["model"])
    tied = tied_names(model)
    stored = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    config = {
        "format": FORMAT,
        "model": {name: value for name, value in sorted(settings.items()) if value is not None},
        "vocabulary_sizes": {stack: getattr(model, stack).embed_tokens.num_embeddings for stack in STACKS},
        "tied": tied,
    }
    weights = safetensors.save(stored, metadata={"format": "pt"})
    weights_file, config_file = files(output)
    write_whole({weights_file: weights, config_file: (json.dumps(config, indent=2) + "\n").encode()})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return [f"{parameters:,} parameters in {len(stored)} tensors; {len(tied)} more names are tied to them"]


def load(path: Path) -> nn.Module:
    """Return the model that :func:`save` has written, in evaluation mode, with dictionaries without words.

    Args:
        path: the path, with or without ``.safetensors``.
    """
    weights, config_file = files(path)
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if config.get("format") != FORMAT:
        raise InputError(f"{config_file}: format {config.get('format')!r}, not {FORMAT!r}")
    tensors = _safetensors().load_file(weights)
    return build(config["model"], {**tensors, **{name: tensors[first] for name, first in config["tied"].items()}})


def tied_names(model: nn.Module) -> dict[str, str]:
    """Return, for each further name of a tied parameter, the name under which the parameter is stored."""
    first: dict[int, str] = {}
    named = [(name, id(parameter)) for name, parameter in model.named_parameters(remove_duplicate=False)]
    owners = {name: first.setdefault(identity, name) for name, identity in named}
    return {name: owner for name, owner in owners.items() if name != owner}


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise InputError("--to safetensors needs the package safetensors: pip install safetensors") from None
    return safetensors.torch

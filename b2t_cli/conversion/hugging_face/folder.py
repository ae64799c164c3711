"""Writes the folder of a model, whole or not at all, and loads what was written."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from b2t_common.errors import InputError

from ..checking import Batch
from ..reference import PADDING

_PACKAGE = "b2t_written_model"


def require_new_folder(folder: Path) -> None:
    """Raise InputError if a folder cannot be written because of what is there, or of what is not."""
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is a folder that is not empty; give a new one")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the folder to write")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder} cannot be written: there is no folder {folder.absolute().parent}")


@contextmanager
def new_folder(folder: Path, contents: Mapping[str, bytes]) -> Iterator[Path]:
    """Yield a temporary folder with files, which gets its name when the block ends without an error."""
    folder = folder.absolute()
    unfinished = folder.with_name(f"{folder.name}.tmp{os.getpid()}")
    try:
        unfinished.mkdir()
        for name, content in contents.items():
            (unfinished / name).write_bytes(content)
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def json_bytes(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def transformers_library() -> ModuleType:
    """Return the package ``transformers``.

    Raises:
        InputError: it is not installed.
    """
    try:
        import safetensors.torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise InputError(
            f"this needs transformers and safetensors ({error}): pip install transformers safetensors"
        ) from None
    return transformers


def load_with_own_code(folder: Path) -> nn.Module:
    """Return the model in a folder, by the code in it, without copying that code into a cache."""
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(folder)]
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        sys.modules[_PACKAGE] = package
        modeling = importlib.import_module(f"{_PACKAGE}.modeling_b2t")
        return load(modeling.B2TForConditionalGeneration, folder)
    finally:
        sys.dont_write_bytecode = writes_bytecode
        for name in [name for name in sys.modules if name.split(".")[0] == _PACKAGE]:
            del sys.modules[name]


def load(model_class: Any, folder: Path) -> nn.Module:
    """Return the model in a folder, in float32.

    Raises:
        InputError: its weights are not those that the class expects.
    """
    logging = transformers_library().logging
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise InputError(
                f"the model for transformers does not fit its weights: {kind} {sorted(map(str, info[kind]))}"
            )
    return model.eval()


@torch.no_grad()
def log_probabilities(model: nn.Module, batch: Batch) -> Tensor:
    """Return the log-probabilities of a model of transformers, ``(tokens, vocabulary)``."""
    inputs = {"input_ids": batch.source, "attention_mask": batch.source.ne(PADDING).long()}
    # FSMT hides later words only if it keeps no keys and values.
    logits = model(**inputs, decoder_input_ids=batch.previous, use_cache=False)[0]
    return torch.log_softmax(logits, dim=-1)[batch.is_token]

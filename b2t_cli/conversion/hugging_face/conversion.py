"""``b2t convert --to transformers`` and ``--to fsmt``: writes a folder, and compares the model in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq.models.transformer import TransformerModel
from torch import Tensor, nn

from ..checking import Batch, check
from . import fsmt
from .folder import json_bytes, load, load_with_own_code, log_probabilities, new_folder, transformers_library
from .model import code, configuration, generation, planned_model, weights
from .tokenizer import tokenizer_files

FSMT = "fsmt"
TARGETS = ("transformers", FSMT)


@dataclass(frozen=True)
class ModelFiles:
    """What the folder of a model has besides its tokenizer.

    Attributes:
        model: the plugin's model.
        scheme: the name of its residual scheme in prose.
        config: the content of ``config.json``.
        generation: that of ``generation_config.json``.
        tensors: those of ``model.safetensors``.
        code: Python files by name; none if transformers has the architecture.
    """

    model: TransformerModel
    scheme: str
    config: dict[str, Any]
    generation: dict[str, Any]
    tensors: dict[str, Tensor]
    code: dict[str, bytes]

    def load(self, folder: Path) -> nn.Module:
        """Return the model of transformers in a folder."""
        if self.code:
            return load_with_own_code(folder)
        return load(transformers_library().FSMTForConditionalGeneration, folder)


def model_files(state: Mapping[str, Any], target: str) -> ModelFiles:
    """Return the files of a model.

    Args:
        state: a checkpoint of this plugin.
        target: ``"transformers"``, with code of its own, or ``"fsmt"``.

    Raises:
        InputError: the model cannot be written; the message says why.
    """
    plan, model = planned_model(state)
    scheme = plan.stacks[0].scheme.title
    if target == FSMT:
        config, search = fsmt.configuration(plan, model), fsmt.generation(model)
        return ModelFiles(model, scheme, config, search, fsmt.weights(plan, model), {})
    return ModelFiles(model, scheme, configuration(plan, model), generation(model), weights(model), code(plan))


def write_folder(
    files: ModelFiles, state: Mapping[str, Any], checkpoint: Path, folder: Path, tokenizer: Mapping[str, Any]
) -> list[str]:
    """Write the folder of a model for transformers; return a report in lines.

    Args:
        files: those of the model.
        state: the checkpoint that they were made of.
        checkpoint: its path.
        folder: the folder to write.
        tokenizer: what :func:`tokenizer_files` takes.

    Raises:
        InputError: a package is missing, the tokenizer cannot be written, or what was written is another model.
    """
    version = transformers_library().__version__
    from safetensors.torch import save

    files_of_tokenizer, tokenizer_report = tokenizer_files(checkpoint, state, files.model, **tokenizer)
    contents = {
        "config.json": json_bytes({**files.config, "transformers_version": version}),
        "generation_config.json": json_bytes(files.generation),
        "model.safetensors": save(files.tensors, metadata={"format": "pt"}),
        **files.code,
        **files_of_tokenizer,
    }
    batch = Batch(files.model.state_dict())
    with new_folder(folder, contents) as unfinished:
        written = files.load(unfinished)
        theirs = batch.log_probabilities(files.model)
        difference = check(log_probabilities(written, batch), theirs, "the plugin's model")
    parameters = sum(parameter.numel() for parameter in written.parameters() if parameter.requires_grad)
    return [
        f"{files.config['architectures'][0]}, {files.scheme}, {parameters:,} parameters in {len(files.tensors)} "
        "tensors",
        tokenizer_report,
        f"checked with transformers {version}: log-probabilities of {batch.tokens} tokens are those of the plugin's "
        f"model within {difference:.1e}",
        str(folder),
    ]

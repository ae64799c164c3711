"""Builds the model of a checkpoint without its data, and loads the parameters strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fairseq.models.transformer import TransformerModel
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_common.names import STACKS
from b2t_fairseq import checkpoints
from b2t_fairseq.building import build_without_data, load_strictly
from b2t_fairseq.models.transformer import B2TTransformerModel


def build(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    model_class: type[TransformerModel] = B2TTransformerModel,
) -> TransformerModel:
    """Return the model of the given settings with the given parameters, in evaluation mode.

    A checkpoint does not contain dictionaries; the model gets dictionaries without words, of the embeddings' sizes.

    Args:
        settings: flags of the model.
        tensors: parameters and buffers by name; the model gets their floating-point type.
        model_class: the class of the model.

    Raises:
        InputError: the settings contradict each other, or the parameters do not fit them.
    """
    source_size, target_size = vocabulary_sizes(tensors)
    try:
        model: TransformerModel = build_without_data(settings, source_size, target_size, model_class)
    except RuntimeError as error:
        raise InputError(f"its model cannot be built: {error}") from None
    model.to(tensors[_embedding("encoder")].dtype)
    load_strictly(model, tensors)
    _refuse_lost(model, tensors)
    return model.eval()


def vocabulary_sizes(tensors: Mapping[str, Tensor]) -> list[int]:
    """Return the number of symbols of the source and of the target dictionary."""
    return [tensors[_embedding(stack)].size(0) for stack in STACKS]


def _embedding(stack: str) -> str:
    return f"{stack}.embed_tokens.weight"


def _refuse_lost(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not equal although the settings tie them: the model would have lost one of them."""
    stored = model.state_dict()
    for name, tensor in tensors.items():
        if not torch.equal(stored[name].nan_to_num(), tensor.nan_to_num().to(stored[name].dtype)):
            raise InputError(f"its settings tie {name} to another parameter, but the two are not equal")


def settings_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model settings of a checkpoint of this plugin.

    Raises:
        InputError: the checkpoint is of another model.
    """
    settings = checkpoints.model_settings(state)
    name = settings.get("_name") or settings.get("arch")
    if "residual" not in settings or "layer_sharing" not in settings:
        raise InputError(f"it is of the model {name}, not of b2t_transformer")
    if any(_embedding(stack) not in state["model"] for stack in STACKS):
        raise InputError(f"it is of the model {name}; only translation models, b2t_transformer, are converted")
    return settings

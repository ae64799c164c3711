"""Building a checkpoint's model without its data, and loading it strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fairseq.models.transformer import TransformerModel
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_common.names import STACKS
from b2t_fairseq import checkpoints
from b2t_fairseq.building import build_without_data
from b2t_fairseq.models.transformer import B2TTransformerModel


def build(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    model_class: type[TransformerModel] = B2TTransformerModel,
) -> TransformerModel:
    """Return the model of the given settings with the given parameters, in evaluation mode.

    The dictionaries are not in a checkpoint; placeholders of the embeddings' sizes stand in for them.

    Args:
        settings: flags of the model.
        tensors: parameters and buffers by name; their floating type becomes the model's.
        model_class: what to build.

    Raises:
        InputError: the settings contradict each other, or the parameters do not fit them.
    """
    source_size, target_size = (tensors[f"{stack}.embed_tokens.weight"].size(0) for stack in STACKS)
    try:
        model: TransformerModel = build_without_data(settings, source_size, target_size, model_class)
    except RuntimeError as error:
        raise InputError(f"its model cannot be built: {error}") from None
    model.to(tensors["encoder.embed_tokens.weight"].dtype)
    try:
        model.load_state_dict(tensors, strict=True)
    except (InputError, RuntimeError) as error:
        raise InputError(f"its weights do not fit its settings: {' '.join(str(error).split())}") from None
    _refuse_lost(model, tensors)
    return model.eval()


def _refuse_lost(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that the model holds otherwise: tied there, and not equal here."""
    stored = model.state_dict()
    for name, tensor in tensors.items():
        if not torch.equal(stored[name].nan_to_num(), tensor.nan_to_num().to(stored[name].dtype)):
            raise InputError(f"its settings tie {name} to another parameter, but the two are not equal")


def settings_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model settings of a checkpoint of this plugin.

    Raises:
        InputError: it is of another model.
    """
    settings = checkpoints.model_settings(state)
    name = settings.get("_name") or settings.get("arch")
    if "residual" not in settings or "layer_sharing" not in settings:
        raise InputError(f"it is of the model {name}, not of b2t_transformer")
    if any(f"{stack}.embed_tokens.weight" not in state["model"] for stack in STACKS):
        raise InputError(f"it is of the model {name}; only translation models, b2t_transformer, are converted")
    return settings

"""A model from its settings alone, without the data and the dictionaries that it was trained on."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from fairseq.data import Dictionary
from torch import Tensor, nn

from b2t_common.errors import InputError

from .models.assembly import FILES_OF_FRESH_MODELS
from .models.transformer import B2TTransformerModel


def placeholder_dictionary(size: int) -> Dictionary:
    """Return a dictionary of ``size`` symbols: fairseq's special ones, then numbers for words."""
    dictionary = Dictionary()
    dictionary.is_placeholder = True
    for word in range(size - len(dictionary)):
        dictionary.add_symbol(str(word))
    return dictionary


def placeholder_task(source_size: int, target_size: int | None = None) -> SimpleNamespace:
    """Return what ``build_model`` reads of a translation task.

    Args:
        source_size: number of symbols of the source dictionary.
        target_size: number of symbols of the target dictionary; equal sizes, or ``None``, mean one joined dictionary.
    """
    source = placeholder_dictionary(source_size)
    is_joined = target_size is None or target_size == source_size
    target = source if is_joined else placeholder_dictionary(target_size or 0)
    return SimpleNamespace(source_dictionary=source, target_dictionary=target)


def build_without_data(
    settings: Mapping[str, Any],
    source_size: int,
    target_size: int | None = None,
    model_class: Any = B2TTransformerModel,
) -> nn.Module:
    """Return a new model: of translation, or of the class that is given.

    Args:
        settings: flags of the model.  Files that a fresh model needs are not read: that happens when training starts.
        source_size: number of symbols of the source dictionary.
        target_size: number of symbols of the target dictionary; equal sizes, or ``None``, mean one joined dictionary.
        model_class: the class of the model.

    Raises:
        InputError: the settings contradict each other.
    """
    unread = {name: None for name in FILES_OF_FRESH_MODELS if name in settings}
    args = Namespace(**{**settings, **unread})
    return model_class.build_model(args, placeholder_task(source_size, target_size))


def load_strictly(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load parameters and buffers by name.

    Raises:
        InputError: they are not those of the model.
    """
    try:
        model.load_state_dict(weights, strict=True)
    except (InputError, RuntimeError) as error:
        raise InputError(f"its weights do not fit its settings: {' '.join(str(error).split())}") from None


def parameters_without_memory(settings: Mapping[str, Any], vocabulary: int) -> int:
    """Return the number of parameters of a translation model; tied ones count once, and none of them is allocated.

    Args:
        settings: flags of the model.
        vocabulary: number of symbols of the joined dictionary.

    Raises:
        InputError: the settings contradict each other.
    """
    with torch.device("meta"):
        model = build_without_data(settings, vocabulary)
    return sum(parameter.numel() for parameter in model.parameters())

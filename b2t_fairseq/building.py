"""A model from its settings alone, without the data and the dictionaries that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from fairseq.data import Dictionary
from torch import nn

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
    """Return a new translation model.

    Args:
        settings: flags of the model.  Files of pretrained embeddings are not read: that happens when training starts.
        source_size: number of symbols of the source dictionary.
        target_size: number of symbols of the target dictionary; equal sizes, or ``None``, mean one joined dictionary.
        model_class: the class of the model.

    Raises:
        InputError: the settings contradict each other.
    """
    unread = {"encoder_embed_path": None, "decoder_embed_path": None}
    args = SimpleNamespace(**{**settings, **unread})
    return model_class.build_model(args, placeholder_task(source_size, target_size))

"""Dictionaries for models that are built without their data."""

from __future__ import annotations

from fairseq.data import Dictionary


def placeholder(size: int) -> Dictionary:
    """Return a dictionary of ``size`` symbols: fairseq's special ones, then numbers for words."""
    dictionary = Dictionary()
    for word in range(size - len(dictionary)):
        dictionary.add_symbol(str(word))
    return dictionary

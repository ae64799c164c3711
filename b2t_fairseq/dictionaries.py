"""What tells one dictionary from another, so that a checkpoint is not read with the words of another model."""

from __future__ import annotations

import hashlib

from fairseq.data import Dictionary


def checksum(dictionary: Dictionary | None) -> str | None:
    """Return a checksum of the symbols in their order; ``None`` without a dictionary, and for a placeholder.

    Args:
        dictionary: the dictionary that an encoder or a decoder reads.
    """
    if dictionary is None or getattr(dictionary, "is_placeholder", False):
        return None
    return hashlib.sha256("\n".join(dictionary.symbols).encode()).hexdigest()[:16]

"""The settings of a training as fairseq logs them at each start."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

WITHOUT_EFFECT = (
    "common",
    "common_eval",
    "distributed_training",
    "checkpoint",
    "bmuf",
    "generation",
    "eval_lm",
    "interactive",
    "ema",
)
"""Sections of fairseq's settings that say where and how a run is done and what it writes, not which model it trains.
The seed is in one of them."""
VALIDATION = (
    "num_workers",
    "data_buffer_size",
    "max_tokens_valid",
    "batch_size_valid",
    "max_valid_steps",
    "validate_interval",
    "validate_interval_updates",
    "validate_after_updates",
    "valid_subset",
)
"""Names in the section of the data that change no update."""


def parse(text: str) -> dict[str, dict[str, Any]]:
    """Return the settings by section and name; nothing if the text is cut or is something else.

    Args:
        text: what fairseq logs: a dictionary of dictionaries, in which a section may be an ``argparse.Namespace``, and
            a value may be a name without quotation marks.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return {}
    sections = _items(tree)
    return {name: {key: _value(node) for key, node in _items(section)} for name, section in sections}


def lookup(settings: dict[str, dict[str, Any]], name: str) -> Any:
    """Return the value of a setting, ``None`` if there is none of this name; a list of one number is that number."""
    for section in settings.values():
        if name in section:
            value = section[name]
            return value[0] if isinstance(value, list) and len(value) == 1 else value
    return None


def of_model(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the settings on which the trained model depends, without the seed; the name of a section is its choice.

    So ``criterion`` is the criterion's name, and ``model`` is the architecture.
    """
    ignored = {key for name in WITHOUT_EFFECT for key in settings.get(name, {}) if key != "_name"} | {*VALIDATION}
    relevant: dict[str, Any] = {}
    for name, section in settings.items():
        if name not in WITHOUT_EFFECT:
            for key, value in section.items():
                if key not in ignored:
                    relevant.setdefault(name if key == "_name" else key, value)
    return relevant


def _items(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), value
    elif isinstance(node, ast.Call):
        yield from ((keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg)


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)

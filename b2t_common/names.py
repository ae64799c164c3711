"""Names that the plugin and the commands share: the stacks of a model, and how a setting is written as a flag."""

STACKS = ("encoder", "decoder")
"""The stacks of a translation model; a language model has a decoder only."""


def flag(name: str) -> str:
    """Return the command-line spelling of a setting: ``layer_sharing`` is ``--layer-sharing``."""
    return f"--{name.replace('_', '-')}"

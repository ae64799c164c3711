"""Names that the plugin and the commands share: stacks, flags, and the beginning of a line of the log."""

STACKS = ("encoder", "decoder")
"""The stacks of a translation model; a language model has a decoder only."""

ASKED_TO_STOP = "asked to stop: "
"""How the line begins that the plugin logs when a signal ends a training."""


def flag(name: str) -> str:
    """Return the command-line spelling of a setting: ``layer_sharing`` is ``--layer-sharing``."""
    return f"--{name.replace('_', '-')}"


def spelled(name: str, value: object) -> str:
    """Return a setting as it stands on a command line: its flag and, unless it is a switch, its value."""
    return flag(name) if value is True else f"{flag(name)} {value}"

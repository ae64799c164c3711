"""The one exception that stands for a mistake of the user's rather than of the program's, and where it comes often."""

from collections.abc import Mapping
from typing import TypeVar

Registered = TypeVar("Registered")


class InputError(ValueError):
    """Settings or files that cannot be used; the message quotes the offending value and says what to do.

    The ``b2t`` command prints it without a traceback.
    """


def known(registry: Mapping[str, Registered], name: str, flag: str, kind: str) -> Registered:
    """Return what a registry has under a name.

    Args:
        registry: what can be chosen, by name.
        name: the value of the flag.
        flag: the flag, such as ``--residual``.
        kind: what the registry has, such as ``scheme``.

    Raises:
        InputError: the name is unknown; the message lists the known ones.
    """
    if name not in registry:
        raise InputError(f"{flag} {name}: unknown {kind}; choose one of {', '.join(registry)}")
    return registry[name]

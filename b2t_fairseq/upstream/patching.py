"""What a change of fairseq or PyTorch is, how it is made, and how it is seen that the original has changed."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

AT_IMPORT, IN_TRAINING, WITH_COMPILE = "when the plugin is loaded", "in `b2t train`", "with `--compile`"
WHILE_FAIRSEQ_LOADS = "while the plugin loads fairseq"
TIMES = (WHILE_FAIRSEQ_LOADS, AT_IMPORT, IN_TRAINING, WITH_COMPILE)
"""When changes are made."""


@dataclass(frozen=True)
class Patch:
    """A function or an attribute that is replaced for the whole process.

    Attributes:
        owner: the module or class, by its full name; it is imported when the patch is applied.
        attribute: what is replaced in it.
        replacement: returns what stands in its place, given the original.
        parameters: the names of the original's parameters; empty if it is no function.
        why: one sentence.
        when: one of ``TIMES``.
    """

    owner: str
    attribute: str
    replacement: Callable[[Any], Any]
    parameters: str
    why: str
    when: str = AT_IMPORT

    @property
    def target(self) -> str:
        return f"{self.owner}.{self.attribute}"

    def resolve(self) -> Any:
        """Return the owner."""
        return pkgutil.resolve_name(self.owner)

    def apply(self) -> None:
        owner = self.resolve()
        original = getattr(owner, self.attribute)
        ORIGINALS[self.target] = original
        replacement = self.replacement(original)
        # a class method is bound already
        is_static = isinstance(inspect.getattr_static(owner, self.attribute), staticmethod | classmethod)
        setattr(owner, self.attribute, staticmethod(replacement) if is_static else replacement)


@dataclass(frozen=True)
class Setting:
    """A change for the whole process through an interface that PyTorch or Python has for it.

    Attributes:
        target: the function or the setting of that interface.
        apply: makes the change.  ``b2t_fairseq/__init__.py`` calls those of ``WHILE_FAIRSEQ_LOADS``, and
            ``kernels/compilation.py`` those of ``WITH_COMPILE``; neither can import the table in time.
        why: one sentence.
        when: one of ``TIMES``.
    """

    target: str
    apply: Callable[[], Any]
    why: str
    when: str = AT_IMPORT


ORIGINALS: dict[str, Any] = {}
"""What the patches that are in force have replaced, by target."""


def changed_signature(patch: Patch) -> str | None:
    """Return a sentence that says how the original differs from what a patch was written for; ``None`` if it does not.

    Args:
        patch: a patch that is applied.
    """
    original = ORIGINALS[patch.target]
    try:
        actual = " ".join(inspect.signature(original).parameters)
    except (TypeError, ValueError):  # no function, or one written in C
        actual = ""
    if actual == patch.parameters:
        return None
    return (
        f"{patch.target} now has the parameters ({actual}), but {patch.replacement.__name__} was written for "
        f"({patch.parameters}): read the new code, change the replacement, then the row of the table"
    )

"""Where the project's scripts lie: beside the packages in a checkout; pip does not install them."""

from __future__ import annotations

import shlex
from pathlib import Path

from .errors import InputError

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
_WITHOUT_SCRIPTS = "in a checkout or in the source distribution of b2t_fairseq; pip does not install the scripts"


def scripts_folder() -> Path:
    """Return the folder of the project's scripts.

    Raises:
        InputError: the project was installed without its scripts; the message says where they are.
    """
    if not (SCRIPTS / "lib.sh").is_file():
        raise InputError(f"{SCRIPTS.parent} has no scripts: find them {_WITHOUT_SCRIPTS}")
    return SCRIPTS


def script_command(name: str, *arguments: object) -> str:
    """Return the command that runs a script of the project, for a message; without scripts, also where they are."""
    try:
        return f"`{shlex.join(['bash', *map(str, (scripts_folder() / name, *arguments))])}`"
    except InputError:
        return f"`{shlex.join(['bash', f'scripts/{name}', *map(str, arguments)])}` {_WITHOUT_SCRIPTS}"

"""``b2t path``: where the plugin lies, and fairseq's command lines with it."""

from __future__ import annotations

import argparse
from pathlib import Path

PLUGIN = str(Path(__file__).resolve().parent.parent / "b2t_fairseq")


def main(argv: list[str]) -> None:
    """Print the folder to give as ``--user-dir``."""
    argparse.ArgumentParser(prog="b2t path", description=main.__doc__).parse_args(argv)
    print(PLUGIN)


def with_plugin(argv: list[str]) -> list[str]:
    """Return a command line of fairseq's with this plugin as ``--user-dir``, unless it has another."""
    given = any(arg == "--user-dir" or arg.startswith("--user-dir=") for arg in argv)
    return argv if given else [*argv, "--user-dir", PLUGIN]

"""``b2t path``: where the plugin lies."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Print the folder to give as ``--user-dir``."""
    argparse.ArgumentParser(prog="b2t path", description=main.__doc__).parse_args(argv)
    print(Path(__file__).resolve().parent.parent)

"""``b2t path``: where the plugin lies, and command lines of fairseq with the plugin."""

from __future__ import annotations

from pathlib import Path

from .arguments import command_parser

PLUGIN = str(Path(__file__).resolve().parent.parent / "b2t_fairseq")


def main(argv: list[str]) -> None:
    """Print the folder to give as --user-dir."""
    command_parser("path", main).parse_args(argv)
    print(PLUGIN)


def with_plugin(argv: list[str]) -> list[str]:
    """Return a command line of fairseq with this plugin as ``--user-dir``, unless it names another."""
    given = any(arg == "--user-dir" or arg.startswith("--user-dir=") for arg in argv)
    return argv if given else [*argv, "--user-dir", PLUGIN]

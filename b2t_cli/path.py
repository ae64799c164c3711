"""``b2t path``: where the plugin lies, and fairseq's command lines with it."""

from __future__ import annotations

from pathlib import Path

from b2t_common.scripts import scripts_folder

from .arguments import command_parser

PLUGIN = str(Path(__file__).resolve().parent.parent / "b2t_fairseq")


def main(argv: list[str]) -> None:
    """Print the folder to give as --user-dir."""
    parser = command_parser("path", main)
    parser.add_argument("--scripts", action="store_true", help="print the folder of the project's scripts instead")
    args = parser.parse_args(argv)
    print(scripts_folder() if args.scripts else PLUGIN)


def with_plugin(argv: list[str]) -> list[str]:
    """Return a command line of fairseq with this plugin as ``--user-dir``, unless it names another."""
    given = any(arg == "--user-dir" or arg.startswith("--user-dir=") for arg in argv)
    return argv if given else [*argv, "--user-dir", PLUGIN]

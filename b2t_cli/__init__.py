"""The ``b2t`` command: one subcommand per file.

A command's file parses its arguments and imports what does the work, which may take seconds, only after that.
"""

from __future__ import annotations

import importlib
import sys

from b2t_common import __version__
from b2t_common.errors import InputError

COMMANDS = {
    "train": "fairseq-train with this plugin loaded, --bf16 fixed and runs protected",
    "generate": "fairseq-generate for several test sets in one process",
    "average": "average the last checkpoints of a run",
    "convert": "checkpoints of the papers' releases into this plugin's; this plugin's into stock fairseq, safetensors",
    "score": "score the output of fairseq-generate, or whole runs on newstest2010 to 2016",
    "table": "one row per configuration, over its seeds: parameters, speed, BLEU",
    "report": "curves, states and scores of runs, going on or ended, as text, one HTML page and figures",
    "analyze": "gradients and activations by depth, of checkpoints and fresh models, as table, figures and JSON",
    "path": "print the folder to give as --user-dir",
}


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand named by the first argument; return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: b2t COMMAND ...\n\n" + "\n".join(f"  {c:{width}}  {h}" for c, h in COMMANDS.items()))
        print("\nb2t COMMAND --help tells more; b2t --version prints the version.")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"b2t_fairseq {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"b2t: unknown command {argv[0]!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command = importlib.import_module(f".{argv[0]}", __name__)
    try:
        return command.main(argv[1:]) or 0
    except InputError as error:
        print(f"b2t {argv[0]}: error: {error}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        # fairseq and Python name the file and nothing else
        print(f"b2t {argv[0]}: error: no such file or folder: {error.filename or error}", file=sys.stderr)
        return 1

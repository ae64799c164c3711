"""The ``b2t`` command: one subcommand per file.

The file of a command parses its arguments.  Only after that does it import what does the work, which may take seconds.
"""

from __future__ import annotations

import importlib
import os
import sys

from b2t_common import __version__, programs

COMMANDS = {
    "train": "fairseq-train with this plugin loaded, --bf16 fixed and runs protected",
    "generate": "fairseq-generate for several test sets in one process",
    "translate": "a translation for every line of a text, in parts that several processes share; can be continued",
    "mbr": "of the candidates of b2t generate --nbest, take the one that is most like the others (minimum Bayes risk)",
    "shortlist": "learn which target symbols each source symbol may become, for b2t generate --shortlist",
    "average": "average the last checkpoints of a run",
    "convert": "checkpoints of the papers' releases into this plugin's; this plugin's into stock fairseq, transformers",
    "grow": "a deeper model that starts from the layers of a trained one, or a shared model untied",
    "score": "score the output of fairseq-generate, or whole runs on their test sets",
    "table": "one row per configuration, over its seeds: parameters, speed, BLEU",
    "report": "curves, states and scores of runs, in training or ended, as text, one HTML page and figures",
    "analyze": "gradients and activations by depth, of checkpoints and fresh models, as table, figures and JSON",
    "path": "print the folder to give as --user-dir",
}


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that the first argument names; return its exit status."""
    if argv is None:
        argv = sys.argv[1:]
        if "--cpu" in argv:
            # PyTorch reads this when it first looks for GPUs.  A GPU that is not used must not be touched either: its
            # memory may be full, and much of fairseq asks whether there is one and not whether it is used.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return programs.run(" ".join(["b2t", *argv[:1]]), lambda: _run(argv))


def _run(argv: list[str]) -> int | None:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    name, *rest = argv
    if name == "--version":
        print(f"b2t_fairseq {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"b2t: unknown command {name!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f".{name}", __name__).main(rest)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    end = "b2t COMMAND --help tells more; b2t --version prints the version."
    return "\n".join(["usage: b2t COMMAND ...", "", *lines, "", end])

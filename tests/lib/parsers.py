"""The parsers of commands: each reads a command line as the command itself would, and nothing is done."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from commands import environment
from helpers import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from pip._internal.commands import create_command
from planning import planned

SLURM_OPTIONS = {"--nodes", "--gpus-per-node", "--gpus", "--cpus-per-task", "--time"}
"""SLURM is not there, so its options are checked against those that we use."""


class Refused(Exception):
    """A command's own parser does not accept it."""


class Parsed(BaseException):
    """Raised instead of doing what a command does once its parser, which is ``parser``, has read all its arguments."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def check(words: list[str]) -> None:
    """Let a command's own parser read it.

    Raises:
        Refused: there is no such command, or it does not know one of its options.
    """
    name = words[0]
    if name in ("source", "cd"):
        if words not in (["source", ".venv/bin/activate"], ["cd", "runs/quickstart-grammar"]):
            raise Refused(f"{words}")
    elif name == "env":
        check(words[words.index("pip") :])
    elif name == "pip":
        _check_pip(words)
    elif name == "bash":
        _check_script(*words[1:])
    elif name == "python":
        _check_program(words)
    elif name in ("sbatch", "srun"):
        _check_slurm(words)
    elif name == "fairseq-hydra-train":
        _check_hydra(words)
    else:
        parser_of(words)
        if name == "torchrun":
            check(words[words.index("--no-python") + 1 :])
        if "--" in words:  # b2t analyze: what follows are flags of b2t train
            check(["b2t", "train", "DATA", *words[words.index("--") + 1 :]])


def parser_of(words: list[str]) -> argparse.ArgumentParser | None:
    """Return the parser of an installed command after it has read ``words``; ``None`` if it printed its help."""
    found = entry_points(group="console_scripts", name=words[0])
    if not found:
        raise Refused(f"{words}: there is no command {words[0]}")
    return _run(next(iter(found)).load(), words)


def _run(program, argv: list[str]) -> argparse.ArgumentParser | None:
    """Run a program until it has parsed its command line."""
    plain = argparse.ArgumentParser.parse_args

    def parse_args(self, *args, **kwargs):
        _refuse_abbreviations(self)
        plain(self, *args, **kwargs)
        raise Parsed(self)

    output = io.StringIO()
    old_argv, old_path = sys.argv, list(sys.path)
    argparse.ArgumentParser.parse_args = parse_args
    sys.argv = list(argv)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            status = program()
    except Parsed as parsed:
        return parsed.parser
    except SystemExit as end:
        status = end.code
    finally:
        argparse.ArgumentParser.parse_args = plain
        sys.argv, sys.path[:] = old_argv, old_path
    if status or not {"--help", "-h", "--version"} & set(argv):
        raise Refused(f"{shlex.join(argv)}: {output.getvalue()[-500:] or status}")
    return None


def _refuse_abbreviations(parser: argparse.ArgumentParser) -> None:
    """Make a parser refuse ``--la`` for ``--last``; its subcommands' parsers too."""
    parser.allow_abbrev = False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _refuse_abbreviations(subparser)


def _check_program(words: list[str]) -> None:
    """Check ``python FILE ...``, ``python -m MODULE ...`` or ``python -c CODE``."""
    if words[1] == "-c":
        try:
            compile(words[2], "<command>", "exec")
        except SyntaxError as error:
            raise Refused(f"{words}: {error}") from None
    elif words[1] == "-m":
        if not (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file():
            raise Refused(f"{words}: there is no module {words[2]}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the module may have been imported before
            _run(lambda: runpy.run_module(words[2], run_name="__main__", alter_sys=True), words[2:])
    else:
        if not (ROOT / words[1]).is_file():
            raise Refused(f"{words}: there is no file {words[1]}")
        _run(lambda: runpy.run_path(str(ROOT / words[1]), run_name="__main__"), words[1:])


def _check_pip(words: list[str]) -> None:
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            create_command(words[1]).parse_args(words[2:])
    except (KeyError, SystemExit):
        raise Refused(f"{words}: {output.getvalue()}") from None
    files = [ROOT / name for name in ("pyproject.toml", "setup.py") if (ROOT / name).exists()]
    project = "".join(file.read_text(encoding="utf-8") for file in files)
    for extra in re.findall(r"[\w-]+", "".join(re.findall(r"\.\[(.+)\]", " ".join(words)))):
        if not re.search(rf'^\s*"?{re.escape(extra)}"?(:| =) \[', project, flags=re.MULTILINE):
            raise Refused(f"{words}: there is no extra {extra}")


def _check_slurm(words: list[str]) -> None:
    start = next(i for i, word in enumerate(words) if word == "bash" or word.endswith(".sbatch"))
    unknown = {word for word in words[:start] if word.startswith("--")} - SLURM_OPTIONS
    if unknown:
        raise Refused(f"{words}: {unknown}")
    if words[0] == "srun":
        check(words[start:])
    else:
        if not (ROOT / words[start]).is_file():
            raise Refused(f"{words}: there is no file {words[start]}")
        check(["bash", "scripts/train.sh", *words[start + 1 :]])


def _check_hydra(words: list[str]) -> None:
    """Compose the configuration, with fairseq's defaults and checks."""
    from fairseq.dataclass.initialize import add_defaults, hydra_init

    options = argparse.ArgumentParser()
    options.add_argument("--config-dir")
    options.add_argument("--config-name")
    options.add_argument("overrides", nargs="*")
    args = options.parse_args(words[1:])
    hydra_init(args.config_name)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(ROOT / args.config_dir), version_base="1.1"):
            add_defaults(compose(args.config_name, args.overrides))
    except Exception as error:
        raise Refused(f"{words}: {error}") from error


def _check_script(name: str, *arguments: str) -> None:
    """Check a command line of one of the project's scripts: it reads all of it before it comes to ``--help``."""
    if not (ROOT / name).is_file():
        raise Refused(f"there is no script {name}")
    if name == "scripts/train.sh":
        _check_training(*arguments)
        return
    end = arguments.index("--") if "--" in arguments else len(arguments)
    ours, fairseqs = list(arguments[:end]), list(arguments[end + 1 :])
    unknown = {word for word in fairseqs if word.startswith("--")} - known_options("fairseq-train")
    unknown |= {word for word in ours if word.startswith("configs/") and not (ROOT / word).is_file()}
    options = {word for word in ours if word.startswith("--")}
    if name in ("scripts/setup.sh", "scripts/test.sh"):
        # These two read one option and then start their work, so it is looked up in their help.
        unknown |= {option for option in options if option not in help_of(name)}
    elif name == "scripts/evaluate.sh":
        # The run must be a folder. What the script does not know it gives to fairseq-generate.
        help_of(name, str(ROOT / "docs"), *ours[1:])
        unknown |= {o for o in options if o not in help_of(name) and o not in known_options("fairseq-generate")}
    else:
        help_of(name, *ours)
    if unknown:
        raise Refused(f"bash {name} {shlex.join(arguments)}: {', '.join(sorted(unknown))}")


@cache
def help_of(name: str, *arguments: str) -> str:
    """Return what a script prints when ``--help`` follows its arguments."""
    command = ["bash", name, *arguments, "--help"]
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    if result.returncode:
        raise Refused(f"{shlex.join(command)}: {result.stderr}")
    return result.stdout


@cache
def _check_training(config: str, *flags: str) -> None:
    """Let fairseq's parser read the command that ``scripts/train.sh`` would run on a machine with 8 GPUs, or one."""
    gpus = 1 if config.startswith(("configs/small/", "configs/iwslt14_de_en/", "configs/notebook/")) else 8
    with tempfile.TemporaryDirectory() as folder:
        output, planned_flags = planned(config, *flags, gpus=gpus, folder=Path(folder), check=False)
    if planned_flags is None:
        raise Refused(f"bash scripts/train.sh {config} {shlex.join(flags)}: {output}")
    check(["b2t", "train", *planned_flags])


@cache
def known_options(command: str) -> frozenset[str]:
    """Return the options of a command of fairseq's, with the flags of this plugin's models."""
    options: set[str] = set()
    for arch, task, criterion in (
        ("b2t_transformer", "translation", "label_smoothed_cross_entropy_fused"),
        ("b2t_transformer_lm", "language_modeling", "cross_entropy"),
        ("b2t_s2t_transformer", "speech_to_text", "label_smoothed_cross_entropy_with_rdrop"),
    ):
        words = [command]
        if command != "fairseq-preprocess":
            words += ["DATA", "--task", task]
        if command == "fairseq-train":
            words += ["--arch", arch, "--criterion", criterion]
        options |= set(parser_of(words)._option_string_actions)
    return frozenset(options)

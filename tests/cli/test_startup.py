"""Commands that need no model answer at once: they import neither torch nor fairseq."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT

from benchmarks.command_startup import light_commands, write_run

HEAVY = {"torch", "fairseq", "b2t_fairseq"}
# prints, as the last line of standard error, the exit status and the packages that were imported
REPORT_IMPORTS = """
import json, sys
from b2t_cli import main
try:
    status = main(sys.argv[1:]) or 0
except SystemExit as ended:
    status = ended.code or 0
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
NAMES = list(light_commands(ROOT))


def imported(*argv):
    """Run a command in a new process; return its output and the packages that it imported."""
    command = [sys.executable, "-c", REPORT_IMPORTS, *map(str, argv)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    status, packages = json.loads(result.stderr.splitlines()[-1])
    assert status == 0, result.stderr
    return result.stdout, set(packages)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with its scores, and translations with their reference."""
    folder = tmp_path_factory.mktemp("startup")
    write_run(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_neither_torch_nor_fairseq_is_imported(folder, name):
    output, packages = imported(*light_commands(folder)[name])
    assert output
    assert not packages & HEAVY


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("--help", "--version", "path"))])
def test_help_imports_no_package_at_all(folder, name):
    """Of those that are installed with this project."""
    _, packages = imported(*light_commands(folder)[name])
    assert not packages & {"numpy", "matplotlib", "sacrebleu", "sentencepiece"}


def test_text_needs_no_matplotlib_and_pages_do(folder):
    assert "matplotlib" not in imported("report", folder / "run", "--text")[1]
    assert "matplotlib" in imported("report", folder / "run", "--output", folder / "page")[1]


def test_checkpoints_are_not_opened_where_the_log_names_the_model(folder, tmp_path):
    """Only a log that does not name the model takes torch."""
    write_run(tmp_path)
    (tmp_path / "run/checkpoint_last.pt").write_bytes(b"no checkpoint")
    assert not imported("report", tmp_path / "run", "--text")[1] & HEAVY
    log = tmp_path / "run/train.log"
    log.write_text("".join(line for line in log.open() if "--residual" not in line))
    assert imported("report", tmp_path / "run", "--text")[1] >= HEAVY


def test_the_commands_read_the_run(folder):
    """A command that ends without reading would import nothing either."""
    text, _ = imported("report", folder / "run", "--text")
    assert "  finished  b2t " in text
    assert "20.00" in text
    assert "20.00" in imported("table", folder / "run")[0]
    assert "BLEU|nrefs:1" in imported(*light_commands(folder)["b2t score GENERATED --reference FILE"])[0]


def test_train_says_what_it_adds_and_where_the_flags_are():
    text, _ = imported("train", "--help")
    for words in ("--bf16", "SIGTERM", "fairseq-train --help", "b2t train --arch ARCH --help"):
        assert words in text
    assert "--subset-lenpen" in imported("generate", "--help")[0]


def test_versions_are_those_that_the_packages_say():
    import fairseq
    import torch

    from b2t_common.versions import installed_version

    assert installed_version("fairseq") == fairseq.__version__
    assert installed_version("torch").split("+")[0] == torch.__version__.split("+")[0]
    assert installed_version("no_such_package") == "unknown"

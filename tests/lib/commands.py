"""Commands and scripts as users run them: installed commands, scripts of the project, and programs in their place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

BIN = Path(sys.executable).parent


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a user who has activated the virtual environment of the tests, outside a cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SACREBLEU", "WMT_", "IWSLT_"))}
    path = f"{BIN}:{kept['PATH']}"
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(BIN.parent), "OMP_NUM_THREADS": "1", **variables}


def command_line(name: str) -> list[str]:
    """Return the command for an installed console script, or the module behind it."""
    if name == "b2t":
        return [sys.executable, "-c", "from b2t_cli import main; raise SystemExit(main())"]
    return [str(BIN / name)]


def finish(command: list[str], timeout: int, env: dict[str, str], **streams) -> subprocess.CompletedProcess:
    """Run a command to its end.

    A command that takes longer than ``timeout`` seconds is stopped together with the processes that it started, and
    each Python process prints where it was.
    """
    env = {**env, "PYTHONFAULTHANDLER": "1"}
    with subprocess.Popen(command, text=True, start_new_session=True, env=env, **streams) as process:
        try:
            outputs = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # SIGABRT makes Python print its stacks; it ends other processes too, so that the pipes are closed.
            os.killpg(process.pid, signal.SIGABRT)
            pytest.fail(f"{command} took more than {timeout} s\n" + "\n".join(map(str, process.communicate())))
    return subprocess.CompletedProcess(command, process.returncode, *outputs)


def run(name: str, *flags: str, check: bool = True, timeout: int = 120, **env: str) -> subprocess.CompletedProcess:
    """Run an installed command as users do; return it with what it printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **env}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    result = finish([*command_line(name), *flags], timeout, env, **pipes)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def script(name: str, *arguments: object, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
    """Run a script of the project; ``stdout`` of the result has both streams."""
    command = ["bash", str(ROOT / "scripts" / name), *map(str, arguments)]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # a guard against a hang: a sweep of four runs takes two minutes on an idle core
    result = finish(command, 600, environment(**variables), **both)
    assert not check or result.returncode == 0, result.stdout
    return result


def stand_in(folder: Path, name: str, content: str) -> str:
    """Write an executable shell script and return a PATH on which it comes first."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{content}")
    (folder / name).chmod(0o755)
    return f"{folder}:{BIN}:{os.environ['PATH']}"

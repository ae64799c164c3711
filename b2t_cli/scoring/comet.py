"""COMET by its own command, as unbabel-comet and fairseq need different versions of some packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import write_lines

COMMAND = "comet-score"


def require() -> None:
    """Check that the command is installed.

    Raises:
        InputError: it is not on the ``PATH``.
    """
    if shutil.which(COMMAND) is None:
        raise InputError(
            f"--comet: there is no command {COMMAND} on the PATH; install it with `pip install unbabel-comet`, best "
            "in its own virtual environment, and add the bin folder of that environment at the end of the PATH"
        )


def system_score(sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], model: str) -> float:
    """Return the score that COMET gives to a whole test set.

    Args:
        sources: the source sentences.
        hypotheses: their translations.
        references: their reference translations.
        model: a name or a file that ``comet-score --model`` knows; empty for its default.

    Raises:
        InputError: the command fails; the message ends with the last line of its output.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("source", "hypothesis", "reference")]
        for file, lines in zip(files, (sources, hypotheses, references), strict=True):
            # the command would take a carriage return for the end of a line
            write_lines(file, [line.replace("\r", " ") for line in lines])
        command = [COMMAND, "-s", str(files[0]), "-t", str(files[1]), "-r", str(files[2]), "--only_system", "--quiet"]
        command += ["--model", model] if model else []
        command += [] if torch.cuda.is_available() else ["--gpus", "0"]
        # it reads and writes UTF-8, whatever the locale
        environment = {**os.environ, "PYTHONUTF8": "1"}
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
    scores = re.findall(r"score: (-?\d+\.\d+)", result.stdout)
    if result.returncode or not scores:
        said = (result.stderr.strip() or result.stdout.strip() or "nothing").splitlines()[-1]
        raise InputError(f"{' '.join(command)} failed with exit status {result.returncode}: {said}")
    return float(scores[-1])

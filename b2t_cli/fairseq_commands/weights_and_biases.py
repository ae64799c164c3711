"""Weights & Biases (``--wandb-project``): a run that is stopped and continued is one run there, with one curve."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairseq.dataclass.configs import FairseqConfig
from fairseq.logging import progress_bar

from b2t_common.errors import InputError
from b2t_common.files import write_whole
from b2t_common.run_folder import WANDB_ID


@contextmanager
def identified(cfg: FairseqConfig, folder: Path, is_continued: bool) -> Iterator[None]:
    """Let processes that start within this context log to the same run as the calls before, in the folder of the run.

    fairseq leaves the choice to the library, which begins another run at each call.

    Args:
        cfg: all settings of the training.
        folder: the run's ``--save-dir``; the identifier of the run is stored there.
        is_continued: whether the run has checkpoints from which it continues.
    """
    is_first_process = cfg.distributed_training.distributed_rank == 0
    if not cfg.common.wandb_project or not is_first_process or cfg.checkpoint.no_save:
        yield
        return
    chosen = {"WANDB_DIR": str(folder.absolute())}
    if "WANDB_RUN_ID" not in os.environ:
        chosen |= {"WANDB_RUN_ID": _identifier(folder / WANDB_ID, is_continued), "WANDB_RESUME": "allow"}
    chosen = {name: value for name, value in chosen.items() if name not in os.environ}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            del os.environ[name]


@contextmanager
def ended(cfg: FairseqConfig) -> Iterator[None]:
    """End the run there with the training of this process, and not only with the process.

    Raises:
        InputError: the library refuses to begin, for instance because nobody has logged in.
    """
    library = progress_bar.wandb
    if not cfg.common.wandb_project or library is None:
        yield
        return
    exit_code = 1
    try:
        yield
        exit_code = 0
    except library.errors.Error as error:
        raise InputError(
            f"--wandb-project {cfg.common.wandb_project}: {error}; log in (wandb login), or set WANDB_MODE=offline"
        ) from None
    finally:
        if library.run is not None:
            library.finish(exit_code=exit_code)


def _identifier(path: Path, is_continued: bool) -> str:
    if is_continued and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    # eight characters, as the library chooses them
    identifier = secrets.token_hex(4)
    write_whole({path: f"{identifier}\n".encode()})
    return identifier

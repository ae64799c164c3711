"""Real fairseq runs on a small generated corpus, in this process or as commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq_cli import preprocess
from fairseq_cli import train as fairseq_train
from helpers import ROOT

PLUGIN = str(ROOT / "b2t_fairseq")
BIN = Path(sys.executable).parent

MODEL_FLAGS = [
    *("--user-dir", PLUGIN, "--arch", "b2t_transformer_tiny", "--share-all-embeddings"),
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32"),
    *("--encoder-layers", "4", "--decoder-layers", "4", "--dropout", "0.1"),
]
SHARED = [
    *("--layer-sharing", "cycle_rev", "--encoder-unique-layers", "2", "--decoder-unique-layers", "2"),
]
TRAIN_FLAGS = [
    *("--cpu", "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "0.01", "--clip-norm", "0.1"),
    *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", "4"),
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
    *("--max-tokens", "160", "--required-batch-size-multiple", "1", "--num-workers", "0", "--seed", "7"),
    *("--log-format", "json", "--log-interval", "1", "--no-progress-bar"),
]


def write_corpus(folder: Path) -> None:
    """Write train (120), valid (16) and test (21) pairs: the target is the source reversed, in other words."""
    generator = torch.Generator().manual_seed(0)
    for split, lines in (("train", 120), ("valid", 16), ("test", 21)):
        with open(folder / f"{split}.en", "w") as source, open(folder / f"{split}.de", "w") as target:
            for _ in range(lines):
                length = int(torch.randint(2, 8, (1,), generator=generator))
                words = torch.randint(0, 12, (length,), generator=generator).tolist()
                source.write(" ".join(f"w{word}" for word in words) + "\n")
                target.write(" ".join(f"v{word}" for word in reversed(words)) + "\n")


def binarize(folder: Path) -> str:
    """Run fairseq-preprocess on the corpus of ``folder``; return the folder of the result."""
    return _preprocess(folder, "", "-s", "en", "-t", "de", "--joined-dictionary")


def binarize_source(folder: Path) -> str:
    """As :func:`binarize`, of the source side alone, for language models."""
    return _preprocess(folder, ".en", "--only-source")


def _preprocess(folder: Path, suffix: str, *flags: str) -> str:
    flags = [*flags, "--destdir", str(folder / "bin")]
    for split in ("train", "valid", "test"):
        flags += [f"--{split}pref", str(folder / f"{split}{suffix}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairseq-preprocess", *flags])
        preprocess.cli_main()
    return str(folder / "bin")


def train(data: str, save_dir: Path, *flags: str, command=fairseq_train.cli_main, basis=None) -> dict:
    """Train in this process and return the last checkpoint's content; ``basis`` stands for the flags above."""
    if hasattr(checkpoint_utils.save_checkpoint, "best"):
        del checkpoint_utils.save_checkpoint.best  # fairseq keeps it between runs of one process
    with pytest.MonkeyPatch.context() as patch:
        argv = [data, *(basis or MODEL_FLAGS + TRAIN_FLAGS), "--save-dir", str(save_dir), *flags]
        patch.setattr(sys, "argv", ["fairseq-train", *argv])
        if command is fairseq_train.cli_main:
            command()
        else:
            command(argv)
    return load(save_dir / "checkpoint_last.pt")


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def command_line(name: str) -> list[str]:
    """Return the command for an installed console script, or the module behind it."""
    if name == "b2t":
        return [sys.executable, "-c", "from b2t_cli import main; raise SystemExit(main())"]
    return [str(BIN / name)]


def finish(command: list[str], timeout: int, env: dict[str, str], **streams) -> subprocess.CompletedProcess:
    """Run a command to its end; one that hangs is ended with all that it started, and tells where each of it hung."""
    env = {**env, "PYTHONFAULTHANDLER": "1"}
    with subprocess.Popen(command, text=True, start_new_session=True, env=env, **streams) as process:
        try:
            outputs = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # Python then prints its stacks; what else there is just ends, and with it the last writer to the pipes
            os.killpg(process.pid, signal.SIGABRT)
            pytest.fail(f"{command} took more than {timeout} s\n" + "\n".join(map(str, process.communicate())))
    return subprocess.CompletedProcess(command, process.returncode, *outputs)


def run(name: str, *flags: str, check: bool = True, timeout: int = 120, **env: str) -> subprocess.CompletedProcess:
    """Run a command as users do and return what it printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **env}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    result = finish([*command_line(name), *flags], timeout, env, **pipes)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def assert_same_model(first: dict, second: dict, tolerance: float = 0.0) -> None:
    """Compare the weights of two checkpoints."""
    assert first["model"].keys() == second["model"].keys()
    for name, tensor in first["model"].items():
        if tensor.numel():
            difference = (tensor.double() - second["model"][name].double()).abs().max().item()
            assert difference <= tolerance, (name, difference)

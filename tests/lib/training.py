"""Real training by fairseq in this process, on a small generated corpus."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq_cli import preprocess
from fairseq_cli import train as fairseq_train
from helpers import ROOT

PLUGIN = str(ROOT / "b2t_fairseq")

MODEL_FLAGS = shlex.split(
    f"--user-dir {shlex.quote(PLUGIN)} --arch b2t_transformer_tiny --share-all-embeddings "
    "--encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --encoder-layers 4 --decoder-layers 4 --dropout 0.1"
)
SHARED = shlex.split("--layer-sharing cycle_rev --encoder-unique-layers 2 --decoder-unique-layers 2")
CRITERION = shlex.split("--criterion label_smoothed_cross_entropy --label-smoothing 0.1")
TRAIN_FLAGS_BUT_CRITERION = shlex.split(
    "--cpu --optimizer adam --adam-betas '(0.9, 0.98)' --lr 0.01 --clip-norm 0.1 "
    "--lr-scheduler inverse_sqrt --warmup-updates 4 "
    "--max-tokens 160 --required-batch-size-multiple 1 --num-workers 0 --seed 7 "
    "--log-format json --log-interval 1 --no-progress-bar"
)
TRAIN_FLAGS = TRAIN_FLAGS_BUT_CRITERION + CRITERION


def write_corpus(folder: Path) -> None:
    """Write 120 pairs to train on, 16 to validate and 21 to test; a target is its source reversed, in other words."""
    generator = torch.Generator().manual_seed(0)
    for split, lines in (("train", 120), ("valid", 16), ("test", 21)):
        with open(folder / f"{split}.en", "w") as source, open(folder / f"{split}.de", "w") as target:
            for _ in range(lines):
                length = int(torch.randint(2, 8, (1,), generator=generator))
                words = torch.randint(0, 12, (length,), generator=generator).tolist()
                source.write(" ".join(f"w{word}" for word in words) + "\n")
                target.write(" ".join(f"v{word}" for word in reversed(words)) + "\n")


def binarize(folder: Path) -> str:
    """Run fairseq-preprocess on the corpus in ``folder``; return the folder of the binary data."""
    return preprocess_pieces(folder)


def binarize_source(folder: Path) -> str:
    """Binarize the source side alone, as data for language models; return their folder."""
    return _preprocess(folder, ".en", "--only-source")


def preprocess_pieces(folder: Path, *flags: str) -> str:
    """Run fairseq-preprocess with a joined dictionary and more flags; return the folder of the binary data."""
    return _preprocess(folder, "", "-s", "en", "-t", "de", "--joined-dictionary", *flags)


def _preprocess(folder: Path, suffix: str, *flags: str) -> str:
    flags = [*flags, "--destdir", str(folder / "bin")]
    for split in ("train", "valid", "test"):
        flags += [f"--{split}pref", str(folder / f"{split}{suffix}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairseq-preprocess", *flags])
        preprocess.cli_main()
    return str(folder / "bin")


def train(data: str, save_dir: Path, *flags: str, command=fairseq_train.cli_main, basis=None) -> dict:
    """Train in this process and return the last checkpoint; ``basis`` replaces MODEL_FLAGS and TRAIN_FLAGS."""
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


def losses(lines: Iterable[str]) -> list[float]:
    """Return the training losses that fairseq logged as JSON, one for each update."""
    logged = [line[line.index("{") :] for line in lines if '"train_wall"' in line and '"update"' in line]
    return [float(json.loads(entry)["loss"]) for entry in logged]


def load(path: Path) -> dict:
    """Return a checkpoint, from which no code is run."""
    return torch.load(path, weights_only=True)


def assert_same_model(first: dict, second: dict, tolerance: float = 0.0) -> None:
    """Check that two checkpoints have the same weights, to an absolute ``tolerance``."""
    assert first["model"].keys() == second["model"].keys()
    for name, tensor in first["model"].items():
        if tensor.numel():
            difference = (tensor.double() - second["model"][name].double()).abs().max().item()
            assert difference <= tolerance, (name, difference)


def whole_and_resumed(data: str, folder: Path, *flags: str, command=fairseq_train.cli_main) -> tuple[dict, dict]:
    """Train for 6 updates, and again from the checkpoint after the third one; return both last checkpoints.

    The last flag must be --max-update, without its number.
    """
    whole = train(data, folder / "whole", *flags, "6", "--save-interval-updates", "3", command=command)
    continue_elsewhere(folder)
    return whole, train(data, folder / "parts", *flags, "6", command=command)


def continue_elsewhere(folder: Path) -> None:
    """Make the first checkpoint within an epoch of the run in ``whole`` the last one of a run in ``parts``."""
    first, *_ = sorted((folder / "whole").glob("checkpoint_*_*.pt"), key=lambda path: int(path.stem.split("_")[2]))
    (folder / "parts").mkdir()
    first.rename(folder / "parts/checkpoint_last.pt")


def assert_same_run(first: dict, second: dict) -> None:
    """Check that two checkpoints have the same weights, optimizer, loss scale and moving average, bit by bit."""
    assert_same_model(first, second)
    for part in ("last_optimizer_state", "b2t_loss_scaling", "ema", "ema_fp32_params"):
        ours, theirs = ({**state, **state["extra_state"]}.get(part) for state in (first, second))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

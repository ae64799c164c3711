"""PowerNorm's statistics and SHAPE's shifts in fairseq's training loop: continued runs, larger updates, precision."""

import pytest
import torch
from processes import two_processes
from training import SHARED, assert_same_model, load, train

from b2t_cli.train import main as b2t_train

POWER = ["--norm", "power_norm", "--power-norm-warmup"]
SHAPE = ["--positions", "shape", "--shape-offsets", "50"]
QUICK = ["--disable-validation", "--no-epoch-checkpoints"]


def test_a_resumed_run_has_the_same_running_values_and_shifts(data, tmp_path):
    """It continues in the warm-up of PowerNorm, and ends after it."""
    flags = [*POWER, "4", *SHAPE, *QUICK]
    whole = train(data, tmp_path / "whole", *flags, "--max-update", "6")
    train(data, tmp_path / "parts", *flags, "--max-update", "3")
    resumed = train(data, tmp_path / "parts", *flags, "--max-update", "6")
    assert_same_model(whole, resumed)
    assert (whole["model"]["encoder.layers.0.final_layer_norm.mean_square"] != 1).all()


def test_batches_of_an_update_equal_one_large_batch(data, tmp_path):
    """Without a warm-up, running values and weights are the same to rounding, for shared layers too."""
    flags = [*POWER, "0", *SHARED, *QUICK, "--max-epoch", "2", "--dropout", "0", "--max-tokens", "100000"]
    batch = train(data, tmp_path / "batch", *flags, "--batch-size", "120")
    parts = train(data, tmp_path / "parts", *flags, "--batch-size", "30", "--update-freq", "4")
    assert_same_model(batch, parts, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--checkpoint-activations"]], ids=["plain", "recomputed"])
def test_two_processes_equal_one(data, tmp_path, flags):
    """Each has half of the batches of an update, and the second has none for the last update of an epoch."""
    flags = [*POWER, "0", *SHARED, *QUICK, *flags, "--ddp-backend", "legacy_ddp", "--max-epoch", "3", "--dropout", "0"]
    flags += ["--max-tokens", "100000", "--batch-size", "40"]
    one = train(data, tmp_path / "one", *flags, "--update-freq", "2")
    two_processes(data, tmp_path / "two", *flags)
    assert_same_model(one, load(tmp_path / "two/checkpoint_last.pt"), tolerance=1e-4)


@pytest.mark.slow
def test_bf16_follows_float32(data, tmp_path):
    """Losses agree to the precision of bf16; running values have that of float32."""
    flags = [*POWER, "4", "--max-epoch", "2", "--dropout", "0", "--clip-norm", "1.0"]
    full = train(data, tmp_path / "full", *flags, command=b2t_train)
    half = train(data, tmp_path / "half", *flags, "--bf16", command=b2t_train)
    assert half["extra_state"]["val_loss"] == pytest.approx(full["extra_state"]["val_loss"], rel=0.05)
    square = half["model"]["encoder.layers.0.final_layer_norm.mean_square"]
    assert not torch.equal(square, square.bfloat16().float())

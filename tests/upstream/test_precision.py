"""Runs in half precision: what a checkpoint holds of them, and that each goes on as if it had not been stopped."""

import shlex

import pytest
import torch
from processes import two_processes
from training import SHARED, assert_same_model, load, train

from b2t_cli.train import main as b2t_train

# The loss scale grows after every second update, and gradients overflow before and after the interruption.
SCALED = shlex.split("--fp16-init-scale 16384 --fp16-scale-window 2 --clip-norm 1.0")
PRECISIONS = {
    "bf16": ["--bf16"],
    "fp16": ["--fp16", *SCALED],
    "fp16-not-flat": ["--fp16", "--fp16-no-flatten-grads", *SCALED],
    "memory-efficient-bf16": ["--memory-efficient-bf16"],
    "memory-efficient-fp16": ["--memory-efficient-fp16", *SCALED],
}
each_precision = pytest.mark.parametrize("flags", PRECISIONS.values(), ids=PRECISIONS)


def assert_same_run(first, second):
    """Check that two checkpoints have the same weights, optimizer, loss scale and moving average, bit by bit."""
    assert_same_model(first, second)
    for part in ("last_optimizer_state", "b2t_loss_scaling", "ema", "ema_fp32_params"):
        ours, theirs = ({**state, **state["extra_state"]}.get(part) for state in (first, second))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@each_precision
def test_a_resumed_run_equals_an_uninterrupted_one(data, tmp_path, flags):
    flags = [*SHARED, "--encoder-word-dropout", "0.1", *flags]
    whole = train(data, tmp_path / "whole", *flags, "--max-update", "7", command=b2t_train)
    train(data, tmp_path / "parts", *flags, "--max-update", "3", command=b2t_train)
    resumed = train(data, tmp_path / "parts", *flags, "--max-update", "7", command=b2t_train)
    assert_same_run(whole, resumed)
    print(whole["extra_state"]["b2t_loss_scaling"], whole["last_optimizer_state"].get("loss_scale"))

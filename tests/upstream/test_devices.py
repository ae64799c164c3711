"""Training on a CPU, whether the machine has a GPU or not, and by several processes."""

import os
import sys

import pytest
import torch
from fairseq import utils
from processes import two_processes
from training import SHARED, load, train

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError


def parameters_with_gradients():
    generator = torch.Generator().manual_seed(1)
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 5, 7)]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


@pytest.mark.parametrize("max_norm", [0, 0.5])
def test_gradients_are_clipped_where_they_are(monkeypatch, max_norm):
    """fairseq asks for the current GPU if there is one, and stacks there what is on the CPU."""
    ours, expected = parameters_with_gradients(), parameters_with_gradients()
    norm = torch.nn.utils.clip_grad_norm_(expected, max_norm or float("inf"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.testing.assert_close(utils.clip_grad_norm_(ours, max_norm), norm)
    for parameter, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


def test_the_flag_cpu_hides_gpus_from_all_commands(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for flags, visible in ([], "0,1"), (["--cpu"], ""):
        monkeypatch.setattr(sys, "argv", ["b2t", "--version", *flags])
        assert b2t() == 0
        assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_amp_without_a_gpu_is_refused(data, tmp_path):
    with pytest.raises(InputError, match=r"--amp needs a GPU: .*; give --bf16"):
        train(data, tmp_path, "--amp", command=b2t_train)


def test_dropped_layers_with_pytorchs_data_parallelism(data, tmp_path):
    """An update uses some of the parameters; PyTorch would stop at the next one, because it waits for all of them."""
    flags = [*SHARED, "--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5", "--max-update", "4"]
    lines = two_processes(data, tmp_path / "run", *flags, "--ddp-backend", "pytorch_ddp")
    assert load(tmp_path / "run/checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 4
    assert sum("--find-unused-parameters is set" in line for line in lines) == 1

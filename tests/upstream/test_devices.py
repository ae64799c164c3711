"""Training on a CPU, whether the machine has a GPU or not, and by several processes."""

import os
import sys

import pytest
import torch
from fairseq import utils
from fairseq.dataclass.configs import DistributedTrainingConfig
from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf
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


@pytest.mark.parametrize(("gpus", "local_rank", "device"), [(8, "3", 3), (4, None, 3), (1, "3", 0), (0, "3", 0)])
def test_a_process_of_a_launcher_uses_its_own_gpu(monkeypatch, gpus, local_rank, device):
    """Of 16 processes on several nodes it is the last one; without ``LOCAL_RANK`` each node has as many as GPUs."""
    variables = {"RANK": "15", "WORLD_SIZE": "16", "MASTER_ADDR": "gpu07", "MASTER_PORT": "1234"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if local_rank is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    cfg = OmegaConf.structured(DistributedTrainingConfig(distributed_world_size=16))
    distributed_utils._infer_torch_distributed_launch_init(cfg)
    assert (cfg.distributed_rank, cfg.distributed_world_size, cfg.device_id) == (15, 16, device)
    assert (cfg.distributed_init_method, cfg.distributed_no_spawn) == ("env://", True)


def test_processes_that_would_train_a_run_each_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(InputError, match=r"WORLD_SIZE=8 .*; add --distributed-world-size 8"):
        train(data, tmp_path, command=b2t_train)


def test_dropped_layers_with_pytorchs_data_parallelism(data, tmp_path):
    """An update uses some of the parameters; PyTorch would stop at the next one, because it waits for all of them."""
    flags = [*SHARED, "--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5", "--max-update", "4"]
    lines = two_processes(data, tmp_path / "run", *flags, "--ddp-backend", "pytorch_ddp")
    assert load(tmp_path / "run/checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 4
    assert sum("--find-unused-parameters is set" in line for line in lines) == 1

"""Training on a CPU, with or without a GPU in the machine: the device of the parameters decides, and nothing else."""

from __future__ import annotations

import functools
import os

import torch
from omegaconf import open_dict
from torch import nn


def with_flat_copy_where_parameters_are(build_fp32_params):
    """Return ``build_fp32_params`` whose flat copy is where the parameters are; fairseq puts it on a GPU.

    fairseq looks for the copy under the number of the parameters' device, which a CPU does not have.
    """

    @functools.wraps(build_fp32_params)
    def wrapper(args, params, flatten=True):
        params = list(params)
        if not flatten or params[0].device.type != "cpu":
            return build_fp32_params(args, params, flatten)
        flat = nn.Parameter(torch.cat([parameter.detach().flatten().float() for parameter in params]))
        flat.grad = torch.zeros_like(flat)
        return {params[0].device.index: flat}

    return wrapper


def with_local_rank(infer):
    """Return ``_infer_torch_distributed_launch_init`` that takes the GPU of the process's number on its node.

    fairseq takes the number among the processes of all nodes, and divides by the number of GPUs, which may be zero.
    Where a launcher does not give the former, as ``LOCAL_RANK``, the latter is the best guess.
    """

    @functools.wraps(infer)
    def wrapper(cfg):
        with open_dict(cfg):
            cfg.distributed_init_method = "env://"
            cfg.distributed_world_size = int(os.environ["WORLD_SIZE"])
            cfg.distributed_rank = int(os.environ["RANK"])
            local_rank = int(os.environ.get("LOCAL_RANK", cfg.distributed_rank))
            cfg.device_id = local_rank % max(torch.cuda.device_count(), 1)
            # the processes exist already
            cfg.distributed_no_spawn = True

    return wrapper


class _TorchOfTrainer:
    """PyTorch, but a new tensor stays where it is if it shall be moved to a GPU and there is none."""

    def __getattr__(self, name):
        return getattr(torch, name)

    @staticmethod
    def tensor(*args, **kwargs):
        created = torch.tensor(*args, **kwargs)
        if not torch.cuda.is_available():
            created.cuda = lambda: created  # type: ignore[method-assign, assignment, misc]
        return created


def with_tensors_without_gpu(module) -> _TorchOfTrainer:
    """Return PyTorch as ``fairseq.trainer`` needs it to skip an update of ``--fp16`` on a CPU."""
    return _TorchOfTrainer()

"""Training by several processes with PyTorch's own DistributedDataParallel."""

from __future__ import annotations

import copy
import functools
import logging

import torch
from fairseq.distributed import ModuleProxyWrapper
from fairseq.modules import LayerDropModuleList
from torch import nn
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(__name__)

_PYTORCHS = ("c10d", "pytorch_ddp")


def with_layers_that_are_dropped(wrap):
    """Return ``DistributedFairseqModel`` for layers that LayerDrop leaves out, and for the CPU.

    PyTorch waits for the gradient of each parameter, unless it is asked to look for those that an update did not use.
    """

    @functools.wraps(wrap)
    def wrapper(args, model, process_group, device):
        if args.ddp_backend not in _PYTORCHS:
            return wrap(args, model, process_group, device)
        args = copy.deepcopy(args)
        if not args.find_unused_parameters and _drops_layers(model):
            logger.info("LayerDrop with PyTorch's data parallelism: --find-unused-parameters is set")
            args.find_unused_parameters = True
        if torch.device(device).type != "cpu":
            return wrap(args, model, process_group, device)
        # fairseq names a GPU
        parallel = DistributedDataParallel(
            model,
            broadcast_buffers=args.broadcast_buffers,
            bucket_cap_mb=args.bucket_cap_mb,
            process_group=process_group,
            find_unused_parameters=args.find_unused_parameters,
            gradient_as_bucket_view=args.gradient_as_bucket_view,
        )
        return ModuleProxyWrapper(parallel)

    return wrapper


def _drops_layers(model: nn.Module) -> bool:
    return any(isinstance(module, LayerDropModuleList) and module.p > 0 for module in model.modules())

"""On a GPU the host waits once in an update: all numbers that it needs come in one copy, with the gradients' norm.

fairseq looks at one number after the other: the norm, whether it is finite, the loss, what is logged, and with several
GPUs also the sums over them.  At each look the host waits until the GPU has done all that it was asked to do, and can
ask nothing meanwhile.  Here the numbers become tensors of the CPU at the first look, so that fairseq's own code does
the rest as on a CPU.  What cannot be read so early, as with fully sharded parameters, is left to fairseq.
"""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils
from torch import Tensor

_LARGEST = 4096
"""More numbers in one tensor are no statistics of an update; they stay on the GPU."""

_logged: list[dict[str, Any]] = []
"""What the batches of this update have logged; its tensors are on the GPU until they are read."""


class _SampleSize:
    """The sample size of an update, summed over all GPUs, which the host does not know before it reads it."""

    def __init__(self, total: Tensor) -> None:
        self.total = total

    def __bool__(self) -> bool:
        """Return true without a look; fairseq asks in order to divide by one, not by zero."""
        return True

    def __rtruediv__(self, number: float) -> Tensor:
        return number / torch.where(self.total == 0, 1.0, self.total)

    def __float__(self) -> float:
        return float(self.total)


def with_logged_numbers(train_step):
    """Return ``FairseqTask.train_step`` that remembers what a batch logs until the host reads it."""

    @functools.wraps(train_step)
    def wrapper(self, *args, **kwargs):
        loss, sample_size, logged = train_step(self, *args, **kwargs)
        _logged.append(logged)
        return loss, sample_size, logged

    return wrapper


def with_sums_on_gpu(sync_sums):
    """Return ``Trainer._fast_stat_sync_sum`` whose sums over an update stay on the GPU until the host reads them."""

    @functools.wraps(sync_sums)
    def wrapper(self, logging_outputs, *extra_stats_to_sum, ignore=False):
        logged, sums = sync_sums(self, logging_outputs, *extra_stats_to_sum, ignore=ignore)
        # After an update the sums are sample size, batches out of memory, training time.
        if len(sums) == 3 and _reads_once(self):
            sums[0] = _SampleSize(sums[0])
            _logged[:] = [*logged, vars(sums[0])]
        return logged, sums

    return wrapper


def with_one_sum(all_reduce_dict):
    """Return ``all_reduce_dict`` that sums the numbers of host and GPU together, on the GPU, and waits for neither."""

    @functools.wraps(all_reduce_dict)
    def wrapper(data, device, group):
        tensors = {key: value for key, value in data.items() if torch.is_tensor(value)}
        if device.type != "cuda" or any(tensor.numel() != 1 for tensor in tensors.values()):
            return all_reduce_dict(data, device, group)
        on_gpu = {key: tensor for key, tensor in tensors.items() if tensor.is_cuda}
        on_host = {key: float(value) for key, value in data.items() if key not in on_gpu}
        # Only from pinned memory a copy does not wait.
        host = torch.tensor(list(on_host.values()), dtype=torch.double).pin_memory().to(device, non_blocking=True)
        both = torch.cat([host, *(tensor.double().reshape(1) for tensor in on_gpu.values())])
        distributed_utils.all_reduce(both, group=group)
        summed = dict(zip([*on_host, *on_gpu], both.unbind(), strict=True))
        return OrderedDict((key, summed[key]) for key in data)

    return wrapper


def with_one_wait(clip_grad_norm):
    """Return ``Trainer.clip_grad_norm`` that brings the numbers of the update to the host, together with the norm."""

    @functools.wraps(clip_grad_norm)
    def wrapper(self, clip_norm):
        logged = list(_logged)
        _logged.clear()
        if not _reads_once(self):
            return clip_grad_norm(self, clip_norm)
        optimizer = self.optimizer
        known: dict[str, Any] = {}
        # An optimizer in half precision has a factor that it has not applied to the gradients yet.
        factor = vars(optimizer).get("_multiply_factor")

        def read(norm: Tensor) -> Tensor:
            known.update(norm=norm, factor=factor, norms=_norms_of_all(self, norm), time=self._cumulative_training_time)
            _bring_to_host([*logged, known])
            self._b2t_norms, self._cumulative_training_time = known["norms"], known["time"]
            if factor is None:
                return norm
            optimizer._multiply_factor = known["factor"]
            known["norm"] = known["norm"] * known["factor"]
            return known["norm"]

        if factor is not None:
            # The optimizer multiplies by it what read() returns, before it is known.
            optimizer._multiply_factor = 1.0
        norm = optimizer.clip_grad_norm(clip_norm, aggregate_norm_fn=read)
        if factor is not None:
            optimizer._multiply_factor = float(optimizer._multiply_factor)
        # Without any gradient nothing was read.
        return known.get("norm", norm)

    return wrapper


def with_norms_that_were_read(check_grad_norms):
    """Return ``Trainer._check_grad_norms`` that compares the norms of all GPUs on the host."""

    @functools.wraps(check_grad_norms)
    def wrapper(self, grad_norm):
        norms = vars(self).pop("_b2t_norms", None)
        if norms is None or not _are_equal(norms):
            check_grad_norms(self, grad_norm)

    return wrapper


def _reads_once(trainer: Any) -> bool:
    settings = trainer.cfg
    is_special = trainer.is_fsdp or settings.optimization.use_bmuf or trainer.pipeline_model_parallel
    return trainer.cuda and not is_special and settings.distributed_training.ddp_backend != "slowmo"


def _norms_of_all(trainer: Any, norm: Tensor) -> Tensor | None:
    """Return the norm of each GPU, on this one; ``None`` if there is only one."""
    norms = trainer._grad_norm_buf
    if norms is None:
        return None
    norms.zero_()
    norms[trainer.data_parallel_rank].copy_(norm)
    distributed_utils.all_reduce(norms, group=trainer.data_parallel_process_group)
    return norms


def _are_equal(norms: Tensor) -> bool:
    """Return whether norms are finite and as equal as fairseq demands."""
    distance = (norms - norms[0]).abs().max() / (norms[0] + 1e-6)
    return bool(torch.isfinite(norms).all() and distance < 1e-6)


def _bring_to_host(holders: list[dict[str, Any]]) -> None:
    """Replace the numbers on the GPU in dictionaries by tensors of the CPU, of the same types, by one copy."""
    places = defaultdict(list)
    for holder in holders:
        for key, value in holder.items():
            if torch.is_tensor(value) and value.is_cuda and value.numel() <= _LARGEST:
                places[value.dtype].append((holder, key, value))
    if not places:
        return
    # A double holds each number of the other types.
    parts = [torch.cat([tensor.reshape(-1) for _, _, tensor in of_type]).double() for of_type in places.values()]
    numbers = torch.cat(parts).cpu()
    tensors = [place for of_type in places.values() for place in of_type]
    for (holder, key, tensor), values in zip(tensors, numbers.split([t.numel() for _, _, t in tensors]), strict=True):
        holder[key] = values.to(tensor.dtype).reshape(tensor.shape)

"""Training in half precision: few kernels for all parameters, where fairseq launches some for each parameter.

With ``--bf16`` and ``--fp16`` the optimizer steps float32 copies of the parameters, the masters.  In each update
fairseq copies every gradient to its master, computes every gradient's norm, and copies every master back, one tensor at
a time.  PyTorch's operations on lists do the same with the same results, many tensors in one kernel of a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def with_gradients_copied_together(sync_gradients):
    """Return ``_FP16OptimizerMixin._sync_fp16_grads_to_fp32`` that copies all gradients to their masters at once."""

    @functools.wraps(sync_gradients)
    def wrapper(self):
        if not self._needs_sync:
            return
        trained = [parameter for parameter in self.fp16_params if parameter.requires_grad]
        pairs = list(zip(_parts_of_masters(self, trained, "grad"), trained, strict=True))
        used = [(target, parameter.grad) for target, parameter in pairs if parameter.grad is not None]
        unused = [target for target, parameter in pairs if parameter.grad is None]
        copy_together([target for target, _ in used], [gradient for _, gradient in used])
        if unused:
            torch._foreach_zero_(unused)
        self._needs_sync = False

    return wrapper


def with_parameters_copied_together(sync_parameters):
    """Return ``_FP16OptimizerMixin._sync_fp32_params_to_fp16`` that copies all masters to the parameters at once."""

    @functools.wraps(sync_parameters)
    def wrapper(self):
        trained = [parameter for parameter in self.fp16_params if parameter.requires_grad]
        copy_together([parameter.data for parameter in trained], _parts_of_masters(self, trained, "data"))

    return wrapper


def with_gradients_cleared_together(zero_grad):
    """Return ``_FP16OptimizerMixin.zero_grad`` that clears the gradients of all masters at once."""

    @functools.wraps(zero_grad)
    def wrapper(self):
        if self.has_flat_params:
            return zero_grad(self)
        masters = self.fp32_params
        if gradients := [master.grad for master in masters if master.grad is not None]:
            torch._foreach_zero_(gradients)
        # fairseq does the rest, and finds no master to clear.
        self.fp32_params = []
        try:
            return zero_grad(self)
        finally:
            self.fp32_params = masters

    return wrapper


def with_norms_together(total_norm):
    """Return ``multi_tensor_total_norm``, the norm of all gradients, that needs no library but PyTorch.

    It computes where the gradients are.
    """

    @functools.wraps(total_norm)
    def wrapper(grads, chunk_size=2048 * 32):
        norms = _norms(list(grads))
        return torch.norm(torch.stack([norm.to(norms[0].device) for norm in norms]))

    return wrapper


def _norms(tensors: list[Tensor]) -> Sequence[Tensor]:
    if tensors[0].is_cuda:
        return torch._foreach_norm(tensors, 2, dtype=torch.float32)
    return [torch.norm(tensor, p=2, dtype=torch.float32) for tensor in tensors]


def without_apex(multi_tensor_l2norm_available):
    """Return that ``multi_tensor_total_norm`` can be used."""
    return True


def copy_together(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy tensors to others of the same shapes, perhaps of another precision, by few kernels.

    Args:
        targets: a list of tensors.
        sources: a list of as many.
    """
    if len(targets) > 0:
        torch._foreach_copy_(list(targets), list(sources))


def _parts_of_masters(optimizer, parameters: list[Tensor], attribute: str) -> list[Tensor]:
    """Return the masters, or their gradients, each in the shape of its parameter.

    Args:
        optimizer: fairseq's ``FP16Optimizer``, whose masters are one tensor for each device or one for each parameter.
        parameters: those that have a gradient, in the order of the optimizer.
        attribute: ``"data"`` or ``"grad"``.
    """
    if not optimizer.has_flat_params:
        pairs = zip(optimizer.fp16_params, optimizer.fp32_params, strict=True)
        masters = [master for parameter, master in pairs if parameter.requires_grad]
        for master in masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        return [getattr(master, attribute) for master in masters]
    parts: dict[int, Tensor] = {}
    for device, flat in optimizer.fp32_params.items():
        members = [parameter for parameter in parameters if parameter.device.index == device]
        pieces = getattr(flat, attribute).split([parameter.numel() for parameter in members])
        parts.update(
            (id(parameter), piece.view_as(parameter)) for parameter, piece in zip(members, pieces, strict=True)
        )
    return [parts[id(parameter)] for parameter in parameters]

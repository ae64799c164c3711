"""Counts what a GPU would be asked to do: kernels, bytes, and places where the host waits for it."""

from __future__ import annotations

import math
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_NO_KERNEL = ("aten::empty", "aten::new_empty", "aten::lift", "aten::_fused_sdp_choice", "aten::is_same_size")
# These read or write as many elements of their first operand as they have indices, not all of it.
_BY_INDEX = ("aten::gather", "aten::scatter_add", "aten::scatter_add_")
# These write all of their first operand, or look at its type only.
_ONLY_WRITTEN = ("aten::fill_", "aten::zero_", "aten::copy_", "aten::_foreach_copy_", "aten::_foreach_zero_")
_ONLY_WRITTEN += ("aten::zeros_like", "aten::ones_like", "aten::full_like")
_WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2")
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
# PyTorch's kernels for lists: at most so many tensors in one kernel, by the number of lists, and so many blocks.
_TENSORS_IN_A_KERNEL = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
_BLOCKS_IN_A_KERNEL, _NUMBERS_IN_A_BLOCK = 320, 65536


class Operations(TorchDispatchMode):
    """Within this context the operations of PyTorch are counted; those on a GPU only, if ``device`` is ``"cuda"``.

    Attributes:
        calls: the number of calls by operation, without views and memory that is not initialized.
        kernels: the number of kernels by operation.  An operation on a list needs one for some tens of tensors.
        bytes: what the kernels read and write by operation, if each reads each of its operands once.
        waits: the places, by operation, where the host waits for the GPU: where PyTorch warns of it with
            ``torch.cuda.set_sync_debug_mode``.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.calls: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operands, results = _tensors((args, kwargs)), _tensors(result)
        if any(tensor.device.type == self.device for tensor in (*operands, *results)):
            self._count(func, args, kwargs, operands, results)
        return result

    def _count(self, func, args, kwargs, operands: list[Tensor], results: list[Tensor]) -> None:
        name = func._schema.name
        if _waits(name, kwargs, args, operands, results):
            self.waits.append(f"{name} at {_place()}")
        if name.startswith(_NO_KERNEL) or _is_view(func, operands, results):
            return
        self.calls[name] += 1
        self.kernels[name] += _kernels_of_lists(args)
        if name in _BY_INDEX:
            indices = next(tensor for tensor in operands if tensor.dtype == torch.int64)
            self.bytes[name] += _bytes(indices) + 2 * indices.numel() * operands[0].element_size()
            return
        written = results or _tensors(args[:1])
        self.bytes[name] += sum(map(_bytes, _read(func, name, args, kwargs))) + sum(map(_bytes, written))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _read(func, name: str, args: tuple, kwargs: dict) -> list[Tensor]:
    """Return the operands that an operation reads: all but those it overwrites."""
    if name in _ONLY_WRITTEN or name.startswith("aten::new_"):
        return _tensors(args[1:])
    out = {argument.name for argument in func._schema.arguments if argument.is_out}
    return _tensors((args, [value for argument, value in kwargs.items() if argument not in out]))


def _is_view(func, operands: list[Tensor], results: list[Tensor]) -> bool:
    if func._schema.is_mutable or not results:
        return False
    storages = {tensor.untyped_storage()._cdata for tensor in operands}
    return all(tensor.untyped_storage()._cdata in storages for tensor in results)


def _bytes(tensor: Tensor) -> int:
    # A dimension that is expanded is read from a cache.
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or size == 0]
    return math.prod(sizes) * tensor.element_size()


def _kernels_of_lists(args: tuple) -> int:
    lists = [arg for arg in args if isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], Tensor)]
    if not lists:
        return 1
    blocks = sum(max(1, math.ceil(tensor.numel() / _NUMBERS_IN_A_BLOCK)) for tensor in lists[0])
    tensors = math.ceil(len(lists[0]) / _TENSORS_IN_A_KERNEL[min(5, len(lists))])
    return max(tensors, math.ceil(blocks / _BLOCKS_IN_A_KERNEL))


def _waits(name: str, kwargs: dict, args: tuple, operands: list[Tensor], results: list[Tensor]) -> bool:
    if name in _WAITS:
        return True
    if name in _INDEXING:
        return any(tensor.dtype == torch.bool for tensor in operands[1:])
    if name == "aten::_to_copy":
        moved, asynchronous = (operands[0], results[0]), kwargs.get("non_blocking", False)
    elif name == "aten::copy_":
        moved, asynchronous = (operands[0], operands[1]), len(args) > 2 and args[2]
    else:
        return False
    return moved[0].device != moved[1].device and not asynchronous


def _place() -> str:
    return " < ".join(_frames())


def _frames() -> Iterator[str]:
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    for frame in [frame for frame in reversed(frames) if frame.filename != __file__][:3]:
        yield f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"

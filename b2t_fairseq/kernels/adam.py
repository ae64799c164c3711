"""``adam_fused``: fairseq's ``adam`` with the whole update in one pass over the memory, torch's fused AdamW.

fairseq's own Adam reads and writes the parameters, the gradients and their moving averages once for each of a dozen
operations.
"""

from __future__ import annotations

import ast
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from fairseq.optim import FairseqOptimizer, adam, register_optimizer
from torch import Tensor
from torch.optim.adamw import AdamW, adamw

from b2t_common.errors import InputError
from b2t_common.names import flag

from .half_precision import copy_together

logger = logging.getLogger(__name__)

_COPIED_AT_ONCE = 2**24
"""How many numbers in half precision are updated at once: their float32 copies take eight bytes a number."""


class FusedAdam(adam.Adam):
    """fairseq's ``Adam`` with another ``step``.

    Settings and state are the same, so each of the two can continue the run of the other.  The moving averages of
    parameters in half precision are float32, and their update is computed in float32.
    """

    def step(self, closure=None):
        """Update the parameters that have a gradient.

        Args:
            closure: computes the loss again, which is then returned.

        Raises:
            InputError: a gradient is sparse.
        """
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for step, parameters in self._of_one_step(group["params"]):
                    self._update(group, step, parameters)
        return loss

    def _of_one_step(self, parameters: list[Tensor]) -> Iterator[tuple[int, list[Tensor]]]:
        """Yield the updates that parameters have had, and those of them that can be updated by one call."""
        together = defaultdict(list)
        copied = 0
        for parameter in parameters:
            if parameter.grad is None:
                continue
            if parameter.grad.is_sparse:
                raise InputError(
                    f"--optimizer adam_fused: a parameter of size {tuple(parameter.shape)} has a sparse gradient, "
                    "which Adam cannot use; build its layer with sparse=False"
                )
            step = self.state[parameter].get("step", 0)
            # Parameters in half precision are updated some at a time: float32 copies of all would need twice the memory
            # of the model.
            part = None
            if _precision(parameter) != parameter.dtype:
                part = copied // _COPIED_AT_ONCE
                copied += parameter.numel()
            together[step, parameter.device, part].append(parameter)
        for (step, *_), members in together.items():
            yield step, members

    def _update(self, group: dict, step: int, parameters: list[Tensor]) -> None:
        step += 1
        for parameter in parameters:
            self._prepare_state(parameter, step)
        beta1, beta2 = group["betas"]
        values = _dense(parameters)
        adamw(
            values,
            _dense([parameter.grad for parameter in parameters if parameter.grad is not None]),
            [self.state[parameter]["exp_avg"] for parameter in parameters],
            [self.state[parameter]["exp_avg_sq"] for parameter in parameters],
            [],
            # torch counts updates in a tensor for each parameter; fairseq's checkpoints hold integers.
            list(torch.full((len(parameters),), step - 1.0, device=parameters[0].device).unbind()),
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            # fairseq adds epsilon to sqrt(v), torch adds it to sqrt(v / (1 - beta2**step)).
            eps=group["eps"] / math.sqrt(1 - beta2**step),
            maximize=False,
        )
        copies = [pair for pair in zip(parameters, values, strict=True) if pair[0] is not pair[1]]
        copy_together([parameter for parameter, _ in copies], [value for _, value in copies])

    def _prepare_state(self, parameter: Tensor, step: int) -> None:
        state = self.state[parameter]
        state["step"] = step
        dtype = _precision(parameter)
        for name in ("exp_avg", "exp_avg_sq"):
            if name not in state:
                state[name] = torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)
            state[name] = state[name].to(parameter.device, dtype).contiguous()


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _dense(tensors: list[Tensor]) -> list[Tensor]:
    """Return the tensors themselves, or copies of those that are in half precision or in another order in memory.

    torch's kernels for CPUs go through the memory of all their inputs from front to back without a look at the strides.
    """
    dense = [
        tensor
        if tensor.is_contiguous() and _precision(tensor) == tensor.dtype
        else torch.empty(tensor.shape, dtype=_precision(tensor), device=tensor.device)
        for tensor in tensors
    ]
    copies = [pair for pair in zip(dense, tensors, strict=True) if pair[0] is not pair[1]]
    copy_together([copy for copy, _ in copies], [tensor for _, tensor in copies])
    return dense


# fairseq continues from a checkpoint if the class of its optimizer has the same name
@register_optimizer("adam_fused", dataclass=adam.FairseqAdamConfig)
class FairseqAdam(adam.FairseqAdam):
    """fairseq's ``adam``: same flags, same numbers, same checkpoints, less time.

    Where torch has no fused AdamW for a device, and on TPUs, it is fairseq's own ``Adam``.

    Args:
        cfg: fairseq's settings of ``adam``.
        params: the parameters, each once.

    Raises:
        InputError: ``adam_betas`` are no two numbers from 0 to below 1, or a flag of ``adam`` has no meaning here.
    """

    def __init__(self, cfg: adam.FairseqAdamConfig, params: list[Tensor]):
        FairseqOptimizer.__init__(self, cfg)
        for name in ("use_old_adam", "fp16_adam_stats"):
            if getattr(cfg, name, False):
                raise InputError(f"{flag(name)} is not for --optimizer adam_fused; drop it, or use --optimizer adam")
        devices = {parameter.device for parameter in params}
        without = {device.type for device in devices if not _has_kernel(device)}
        if without:
            logger.info(f"adam_fused: torch has no fused AdamW for {', '.join(sorted(without))}; using fairseq's Adam")
        optimizer_class = adam.Adam if without or getattr(cfg, "tpu", False) else FusedAdam
        self._optimizer = optimizer_class(params, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict:
        """The arguments of the optimizer; fairseq's own property runs ``adam_betas`` as Python code."""
        lr = self.cfg.lr
        return {
            "lr": lr[0] if isinstance(lr, Sequence) else lr,
            "betas": _parse_betas(self.cfg.adam_betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }


def _parse_betas(given: str | Sequence[float]) -> tuple[float, float]:
    try:
        betas = ast.literal_eval(given) if isinstance(given, str) else given
        beta1, beta2 = betas if isinstance(betas, Sequence) else ()
        if 0 <= beta1 < 1 and 0 <= beta2 < 1:
            return float(beta1), float(beta2)
    except (ValueError, SyntaxError, TypeError):
        pass
    raise InputError(f"--adam-betas {given}: give two numbers that are at least 0 and below 1, as in '(0.9, 0.98)'")


def _has_kernel(device: torch.device) -> bool:
    # torch does not publish the list of devices, so one update is tried.
    one = torch.ones(1, device=device, requires_grad=True)
    one.grad = torch.ones_like(one)
    try:
        AdamW([one], fused=True).step()
    except RuntimeError:
        return False
    return True

"""Half precision: a checkpoint holds the weights that the optimizer steps, and runs continue from it in any precision.

With ``--bf16`` and ``--fp16`` the optimizer steps float32 copies of the weights, the masters, and the model computes
with the masters rounded to half precision.  fairseq saves the rounded weights, as float32, and makes new masters from
them; it also forgets when the loss scale has to grow.  Here a checkpoint has the masters in the place of the rounded
weights: the names, the type and the size are the same, and rounding them gives the weights of the model.
``--memory-efficient-...`` has no masters, and with ``--amp`` the model itself is float32.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from fairseq.optim import OPTIMIZER_REGISTRY, FP16Optimizer
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from torch import Tensor
from torch.nn import Parameter

from b2t_common.names import flag

from .. import checkpoints
from . import optimizer_layout

logger = logging.getLogger(__name__)

_KEY = "b2t_loss_scaling"
_COUNTERS = ("_iter", "_last_overflow_iter", "_last_rescale_iter", "_overflows_since_rescale")
_WRAPPERS = {
    "memory_efficient_bf16": "MemoryEfficientFP16Optimizer",
    "memory_efficient_fp16": "MemoryEfficientFP16Optimizer",
    "amp": "AMPOptimizer",
    "bf16": "FP16Optimizer",
    "fp16": "FP16Optimizer",
}
"""The settings of a precision, and the class in which fairseq then wraps the optimizer, in fairseq's order."""


@dataclass
class _Loading:
    """A checkpoint that a trainer is loading.

    Attributes:
        trainer: fairseq's trainer.
        resets_optimizer: whether nothing but the weights is wanted.
        weights: the model's weights as the file has them, once they are read.
    """

    trainer: Any
    resets_optimizer: bool
    weights: Mapping[str, Tensor] = field(default_factory=dict)


_loading: list[_Loading] = []


def with_masters(state_dict):
    """Return ``Trainer.state_dict`` with the masters in the place of rounded weights, and the scaler's counters."""

    @functools.wraps(state_dict)
    def wrapper(self):
        state = state_dict(self)
        masters = _masters(self.optimizer)
        for name, parameter in self.get_model().named_parameters(remove_duplicate=False):
            if parameter in masters and name in state["model"]:
                state["model"][name] = masters[parameter]
        state["extra_state"][_KEY] = _loss_scaling(self)
        return state

    return wrapper


def with_masters_restored(load_checkpoint):
    """Return ``Trainer.load_checkpoint`` after which the optimizer has the masters and the counters of the checkpoint.

    A run that takes nothing but the weights from a checkpoint begins with the masters, too.
    """

    @functools.wraps(load_checkpoint)
    def wrapper(self, filename, reset_optimizer=False, *args, **kwargs):
        with _loaded_by(self, reset_optimizer) as loading:
            extra_state = load_checkpoint(self, filename, reset_optimizer, *args, **kwargs)
        if loading.weights:
            _restore_masters(self, loading.weights)
        if extra_state is not None and not reset_optimizer:
            _restore_loss_scaling(self, extra_state.get(_KEY) or {})
        return extra_state

    return wrapper


def with_optimizer_state_for_trainer(load_checkpoint_to_cpu):
    """Return ``load_checkpoint_to_cpu`` that gives a trainer the optimizer's state as its precision has it."""

    @functools.wraps(load_checkpoint_to_cpu)
    def wrapper(path, arg_overrides=None, load_on_all_ranks=False):
        state = load_checkpoint_to_cpu(path, arg_overrides, load_on_all_ranks)
        if _loading and not _loading[-1].resets_optimizer and state.get("last_optimizer_state") is not None:
            _convert(state, _loading[-1].trainer, path)
        return state

    return wrapper


def with_weights_as_read(load_state_dict):
    """Return ``BaseFairseqModel.load_state_dict`` that keeps a trainer's weights as the file has them."""

    @functools.wraps(load_state_dict)
    def wrapper(self, state_dict, strict=True, model_cfg=None, args=None):
        if _loading and self is _loading[-1].trainer.get_model():
            _loading[-1].weights = state_dict
        return load_state_dict(self, state_dict, strict, model_cfg, args)

    return wrapper


@contextmanager
def _loaded_by(trainer, resets_optimizer: bool) -> Iterator[_Loading]:
    _loading.append(_Loading(trainer, resets_optimizer))
    try:
        yield _loading[-1]
    finally:
        _loading.pop()


def _masters(optimizer) -> dict[Parameter, Tensor]:
    """Return the master of each parameter that has one, with the parameter's shape."""
    if not isinstance(optimizer, FP16Optimizer):
        return {}
    parameters, masters = optimizer.fp16_params, optimizer.fp32_params
    if optimizer.has_flat_params:
        (flat,) = masters.values()
        masters = flat.data.split([parameter.numel() for parameter in parameters])
    return {parameter: master.data.view_as(parameter) for parameter, master in zip(parameters, masters, strict=True)}


def _restore_masters(trainer, weights: Mapping[str, Tensor]) -> None:
    masters = _masters(trainer.optimizer)
    for name, parameter in trainer.get_model().named_parameters(remove_duplicate=False):
        if parameter in masters and name in weights:
            weight = weights[name].to(parameter.device)
            # a weight that was changed while it was loaded is not what the file has under its name
            if weight.to(parameter.dtype).equal(parameter.data):
                masters[parameter].copy_(weight)


def _loss_scaling(trainer) -> dict[str, Any]:
    """Return what decides when the loss scale changes; fairseq's scale itself is in the optimizer's state."""
    scaler = getattr(trainer.optimizer, "scaler", None)
    if isinstance(scaler, DynamicLossScaler):
        return {name: getattr(scaler, name) for name in _COUNTERS}
    if isinstance(scaler, torch.amp.GradScaler) and scaler.is_enabled():
        state = scaler.state_dict()
        return {
            "scale": state["scale"],
            "_growth_tracker": state["_growth_tracker"],
            "retries": trainer._amp_retries,
        }
    return {}


def _restore_loss_scaling(trainer, saved: Mapping[str, Any]) -> None:
    if saved.keys() != _loss_scaling(trainer).keys():
        return  # the checkpoint is an older one, or of another precision
    scaler = getattr(trainer.optimizer, "scaler", None)
    if isinstance(scaler, DynamicLossScaler):
        vars(scaler).update(saved)
    elif scaler is not None and saved:
        counters = dict(saved)
        trainer._amp_retries = counters.pop("retries")
        scaler.load_state_dict({**scaler.state_dict(), **counters})


def _convert(state: dict[str, Any], trainer, path: str) -> None:
    """Make a checkpoint of any precision one from which this trainer can continue, and say what that changes.

    fairseq refuses another optimizer, and takes the class that wraps it for one.
    """
    if trainer.is_fsdp or trainer.cfg.optimization.use_bmuf:
        return  # these have wrappers of their own
    theirs, ours = _settings(state, "common"), checkpoints.flat_settings(trainer.cfg.common)
    history = state["optimizer_history"][-1]
    now = _class_name(trainer.cfg.optimizer._name)
    then = history["optimizer_name"]
    if then in _WRAPPERS.values():
        settings = _settings(state, "optimizer")
        then = _class_name(settings.get("_name") or settings.get("optimizer")) or now
    if then != now:
        history["optimizer_name"] = f"{then} (here {now})"
        return
    history["optimizer_name"] = _wrapper(ours) or now
    parameters = chain(trainer.get_model().parameters(), trainer.get_criterion().parameters())
    shapes = [parameter.shape for parameter in parameters if parameter.requires_grad]
    state["last_optimizer_state"] = optimizer_layout.fitting(
        state["last_optimizer_state"], shapes, optimizer_layout.is_flat(trainer.cfg.common)
    )
    if _precision(theirs) != _precision(ours):
        logger.info(f"the run continues {_precision(ours)}; {path} was written {_precision(theirs)}")
    if _wrapper(theirs) == "FP16Optimizer" and _is_rounded(state["model"], _dtype(theirs)):
        logger.warning(
            f"{path} was written without the float32 copies of the weights, so the run continues from weights that "
            f"are rounded to {_dtype(theirs)}, and will differ a little from one that was not interrupted"
        )


def _settings(state: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return a group of fairseq's settings in a checkpoint; older ones have all settings in one group."""
    settings = (state.get("cfg") or {}).get(group)
    return checkpoints.flat_settings(state.get("args") or {} if settings is None else settings)


def _class_name(optimizer: str | None) -> str | None:
    """Return the class of an ``--optimizer``: ``adam`` and ``adam_fused`` have the same."""
    return getattr(OPTIMIZER_REGISTRY.get(optimizer), "__name__", None)


def _wrapper(common: Mapping[str, Any]) -> str | None:
    """Return the class in which fairseq wraps the optimizer, ``None`` in float32."""
    return next((wrapper for name, wrapper in _WRAPPERS.items() if common.get(name)), None)


def _precision(common: Mapping[str, Any]) -> str:
    return next((f"with {flag(name)}" for name in _WRAPPERS if common.get(name)), "in float32")


def _dtype(common: Mapping[str, Any]) -> torch.dtype:
    return torch.bfloat16 if common.get("bf16") else torch.float16


def _is_rounded(weights: Mapping[str, Tensor], dtype: torch.dtype) -> bool:
    numbers = (weight for weight in weights.values() if weight.is_floating_point())
    return all(number.equal(number.to(dtype).to(number.dtype)) for number in numbers)

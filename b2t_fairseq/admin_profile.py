"""Admin's profile: its omegas are measured on the first batch of a fresh run, before the first update.

Liu et al. 2020 (arXiv 2004.08249), section 4: going up a stack from ``omega_1 = 1``, sub-layer k with input ``x_k``
gives ``omega_{k+1} = sqrt(Var[omega_k x_k] + Var[f_k(x_k)])``, with variances over all elements of the batch, dropout
on.  As in the sharing paper's release padding counts, and each sub-layer of each layer has an omega of its own even if
layers share their parameters.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_common.files import write_lines

from .layer_stack import LayerStack, layer_stacks
from .residual import Admin
from .residual.contract import Connect, observing

logger = logging.getLogger(__name__)


def profiling_first(train_step):
    """Return ``Trainer.train_step`` that profiles a model which needs it before the first update."""

    @functools.wraps(train_step)
    def wrapper(self, samples, *args, **kwargs):
        if not hasattr(self, "_b2t_profiled"):
            self._b2t_profiled = True
            if not is_profiled(self.get_model()):
                profile_in_training(self, samples[0])
        return train_step(self, samples, *args, **kwargs)

    return wrapper


def is_profiled(model: nn.Module) -> bool:
    """Whether all omegas of a model are measured; true for a model that has none."""
    return all(scheme.profiled for _, schemes in _stacks(model) for scheme in schemes)


def profile_in_training(trainer: Trainer, sample: dict) -> None:
    """Profile the model on the first batch, or read its profile, before anything has been computed from its omegas."""
    if trainer.is_fsdp:
        raise InputError(
            "--ddp-backend fully_sharded spreads the omegas of --residual admin over the devices, so they cannot be "
            "measured; use --ddp-backend pytorch_ddp"
        )
    model, path = trainer.get_model(), getattr(trainer.cfg.model, "admin_profile", None)
    is_given = path is not None and Path(path).exists()
    if path is not None and is_given:
        read(model, path)
        logger.info(f"Admin: omegas are those of --admin-profile {path}")
    else:
        # The seed and the mode are those of the first update, so that the dropout masks are the same.
        trainer._set_seed()
        model.train()
        batch, _ = trainer._prepare_sample(sample)
        measure(model, batch["net_input"])
    if trainer.data_parallel_world_size > 1:
        # Also if it was read, because another machine may not have the file.
        _agree(model, trainer.data_parallel_process_group)
    if not is_given:
        if path and trainer.is_data_parallel_master:
            write(model, path)
        listed = "; ".join(f"{stack} {omegas[0]:.2f} to {omegas[-1]:.2f}" for stack, omegas in _omegas(model).items())
        logger.info(f"Admin: profiled on the first batch; omegas from the bottom to the top: {listed}")
    # An optimizer in half precision holds copies of the parameters.
    trainer.reinitialize()
    trainer.lr_step_begin_epoch(1)


def _agree(model: nn.Module, group) -> None:
    """Give all processes the omegas of the first one."""
    for _, schemes in _stacks(model):
        for scheme in schemes:
            distributed_utils.broadcast(scheme.omega.data, src=0, group=group)


@torch.no_grad()
def measure(model: nn.Module, net_input: dict[str, Tensor]) -> None:
    """Set the omegas from one forward pass in the model's present mode, which already uses them.

    Args:
        model: a model of which some stacks have a scheme with omegas.
        net_input: the arguments of its forward, as in a batch of fairseq.
    """
    # It is one pass, and its numbers are read on the host, so nothing is compiled.
    with torch.compiler.set_stance("force_eager"), _measuring(model):
        model(**net_input)


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    stacks = _stacks(model)
    layerdrops = [(stack.layers, stack.layers.p) for stack, _ in stacks if hasattr(stack.layers, "p")]
    for layers, _ in layerdrops:
        layers.p = 0.0
    try:
        with ExitStack() as observed:
            for stack, schemes in stacks:
                # In the release padding has the embedding of the padding symbol, which is zero in a new model only.
                stack.clear_padding = False
                observed.enter_context(observing(schemes, _OmegaSetter()))
            yield
        for _, schemes in stacks:
            for scheme in schemes:
                scheme.profiled.fill_(1)
    finally:
        for stack, _ in stacks:
            stack.__dict__.pop("clear_padding", None)
        for layers, probability in layerdrops:
            layers.p = probability


class _OmegaSetter:
    """Observes the schemes of one stack: sets each omega when its sub-layer is reached, and computes the next one."""

    def __init__(self) -> None:
        self.omega = 1.0

    def __call__(self, scheme: Admin, connect: Connect) -> Connect:
        def set_omega_and_connect(x, f, norm, layer_input, index):
            scheme.omega[index].fill_(self.omega)
            outputs = []

            def observed(x):
                outputs.append(f(x))
                return outputs[-1]

            connected = connect(x, observed, norm, layer_input, index)
            parts = (self.omega * x.float(), outputs[0].float())
            self.omega = sum(part.var(unbiased=False) for part in parts).sqrt().item()
            return connected

        return set_omega_and_connect


def write(model: nn.Module, path: str | Path) -> None:
    """Write the omegas in the sharing release's format: lines ``INDEX OMEGA``, encoder first, both counted from 1.

    Raises:
        InputError: the folder does not exist.
    """
    lines = (f"{number} {omega}" for omegas in _omegas(model).values() for number, omega in enumerate(omegas, 1))
    try:
        write_lines(Path(path), lines)
    except InputError as error:
        raise InputError(f"--admin-profile {error}") from None


@torch.no_grad()
def read(model: nn.Module, path: str | Path) -> None:
    """Set the omegas of a model from a file in the sharing release's format.

    Raises:
        InputError: the file is not a profile, or is that of a model with other layers; nothing is set then.
    """
    try:
        lines = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines()]
        numbered = [(int(number), float(omega)) for number, omega in lines]
    except ValueError as error:
        raise InputError(
            f"--admin-profile {path} is not a profile ({error}): each line is the number of a sub-layer and its omega"
        ) from None
    stacks = _stacks(model)
    counts = [sum(len(scheme.omega) for scheme in schemes) for _, schemes in stacks]
    if [number for number, _ in numbered] != [number for count in counts for number in range(1, count + 1)]:
        expected = ", ".join(f"1 to {count} ({stack.name})" for (stack, _), count in zip(stacks, counts, strict=True))
        raise InputError(
            f"--admin-profile {path} is of another model: its {len(numbered)} lines must be numbered {expected}; give "
            "another file, or the name of a new one to have it written"
        )
    if not all(0 < omega < float("inf") for _, omega in numbered):
        raise InputError(f"--admin-profile {path} has omegas that are not positive numbers; delete it and start again")
    values = iter(omega for _, omega in numbered)
    for _, schemes in stacks:
        for scheme in schemes:
            for omega in scheme.omega:
                omega.fill_(next(values))
            scheme.profiled.fill_(1)


def _omegas(model: nn.Module) -> dict[str, list[float]]:
    """Return the omega of each sub-layer by stack, which is one number in all dimensions before training."""
    return {
        stack.name: [omega[0].item() for scheme in schemes for omega in scheme.omega]
        for stack, schemes in _stacks(model)
    }


def _stacks(model: nn.Module) -> list[tuple[LayerStack, list[Admin]]]:
    """Return the stacks of a model with Admin, encoder first, with the schemes of their layers from the bottom."""
    schemes = [(stack, [layer.residual for layer in stack.layer_list()]) for stack in layer_stacks(model)]
    return [(stack, of_stack) for stack, of_stack in schemes if isinstance(of_stack[0], Admin)]

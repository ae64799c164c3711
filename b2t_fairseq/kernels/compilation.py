"""``--compile``: the training passes of the layers through PyTorch's compiler."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)

Mixin: Any = object
"""A base for classes that are mixed into modules of fairseq, for type checkers, which cannot see their attributes."""


class CompiledInTraining(Mixin):
    """A layer that, once :meth:`compile` was called, is compiled in training and nowhere else.

    Validation and translation would need another graph, without gradients, for sizes that vary more, and would gain
    little.  Layers that differ only in their parameters share the compiled code.
    """

    is_unavailable = False
    """Whether compiling has failed in this process."""

    failure = ""
    """The first line of the compiler's message, if it has failed."""

    def __call__(self, *args, **kwargs):
        if self._compiled_call_impl is None or not self.training or CompiledInTraining.is_unavailable:
            return self._call_impl(*args, **kwargs)
        try:
            return self._compiled_call_impl(*args, **kwargs)
        except _failures() as error:
            CompiledInTraining.is_unavailable = True
            reason = CompiledInTraining.failure = str(error).strip().split("\n")[0]
            logger.warning(f"--compile: this machine cannot compile ({reason}); training goes on without")
            return self._call_impl(*args, **kwargs)


def compile_layers(layers: list[nn.Module]) -> None:
    """Compile the training passes of layers for any length and batch size, when the layers are first called.

    Args:
        layers: layers that are :class:`CompiledInTraining`.
    """
    keep_layers_whole()
    take_equal_sizes_for_chance()
    for layer in layers:
        for module in layer.modules():
            if not getattr(module, "is_compilable", True):
                vars(module)["forward"] = torch.compiler.disable(module.forward)
        layer.compile(dynamic=True)


def keep_layers_whole() -> None:
    """Let PyTorch cut no graph at the buckets of gradients of DistributedDataParallel.

    One layer's gradients are sent while those of the layer below are computed.
    """
    import torch._dynamo  # late, because it takes seconds

    torch._dynamo.config.optimize_ddp = False


def take_equal_sizes_for_chance() -> None:
    """Let PyTorch not conclude from two equal sizes of the first batch that they are always equal."""
    import torch.fx.experimental._config  # late, likewise

    torch.fx.experimental._config.use_duck_shape = False


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions of a compiler that fails; their import loads half of PyTorch, so it happens late."""
    import torch._dynamo.exc
    import torch._inductor.exc

    # PyTorch before 2.7 has no InductorError.
    inductor = getattr(torch._inductor.exc, "InductorError", torch._dynamo.exc.BackendCompilerFailed)
    return torch._dynamo.exc.TorchDynamoException, inductor

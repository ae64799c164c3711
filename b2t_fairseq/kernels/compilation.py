"""``--compile``: the training passes of the layers through PyTorch's compiler."""

from __future__ import annotations

import logging

from torch import nn

logger = logging.getLogger(__name__)


class CompiledInTraining:
    """A layer that, once :meth:`compile` was called, is compiled in training and nowhere else.

    Validation and translation would compile anew for little: a graph without gradients, and sizes that vary more.
    Layers that differ in their parameters alone share what is compiled.
    """

    is_unavailable = False
    """Whether compiling has failed in this process."""

    def __call__(self, *args, **kwargs):
        if self._compiled_call_impl is None or not self.training or CompiledInTraining.is_unavailable:
            return self._call_impl(*args, **kwargs)
        try:
            return self._compiled_call_impl(*args, **kwargs)
        except _failures() as error:
            CompiledInTraining.is_unavailable = True
            reason = str(error).strip().split("\n")[0]
            logger.warning(f"--compile: this machine cannot compile ({reason}); training goes on without")
            return self._call_impl(*args, **kwargs)


def compile_layers(layers: list[nn.Module]) -> None:
    """Compile the training passes of layers, for lengths and batches of any size; done when they are first called.

    Args:
        layers: layers that are :class:`CompiledInTraining`.
    """
    for layer in layers:
        layer.compile(dynamic=True)


def _failures() -> tuple[type[Exception], ...]:
    """Return what a failing compiler raises, which imports half of PyTorch and so is asked for late."""
    import torch._dynamo.exc
    import torch._inductor.exc

    # PyTorch before 2.7 has no InductorError
    inductor = getattr(torch._inductor.exc, "InductorError", torch._dynamo.exc.BackendCompilerFailed)
    return torch._dynamo.exc.TorchDynamoException, inductor

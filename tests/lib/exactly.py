"""Comparing two ways to compute a model in float64, where the difference does not depend on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from fairseq import utils


@contextmanager
def softmaxes_in_float64() -> Iterator[None]:
    """Let fairseq compute softmaxes in float64; its own turn even a float64 model's scores into float32.

    Two ways to compute a model are compared in float64.  In float32 their difference depends on the processor, and no
    fixed tolerance tells it from a mistake where activations grow: without norms attention scores reach 100, and the
    logits are up to 5e-5 off even if each operation is exact and only its result is rounded.
    """

    def softmax(x, dim, onnx_trace=False):
        return torch.softmax(x, dim, dtype=torch.float64)

    def log_softmax(x, dim, onnx_trace=False):
        return torch.log_softmax(x, dim, dtype=torch.float64)

    with patch.multiple(utils, softmax=softmax, log_softmax=log_softmax):
        yield


def assert_equal_in_float64(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare logits or scores of float64 models, relative to the largest: a small one is what large ones leave."""
    assert actual.dtype == expected.dtype == torch.float64
    assert (actual - expected).abs().max() < 1e-12 * expected.abs().max().clamp(min=1)

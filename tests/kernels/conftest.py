"""Shared by the tests of kernels."""

import pytest
import torch

from b2t_fairseq.kernels import linear


@pytest.fixture(params=[True, False], ids=["onednn", "pytorch"])
def onednn(request, monkeypatch):
    """Run a test twice, with the matrix products of oneDNN and of PyTorch, whatever the processor is."""
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: request.param)

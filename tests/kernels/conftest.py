"""Shared by the tests of kernels."""

import functools

import pytest
import simulated_cuda
import torch

from b2t_fairseq.kernels import linear


@pytest.fixture(params=[True, False], ids=["onednn", "pytorch"])
def onednn(request, monkeypatch):
    """Run a test twice, with the matrix products of oneDNN and of PyTorch, whatever the processor is."""
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: request.param)
    # Small products too, but no empty ones.
    monkeypatch.setattr(linear, "_FEWEST", 1)
    monkeypatch.setattr(linear, "least_rows", lambda: 1)


@pytest.fixture(scope="session")
def on_gpu():
    """A function that runs another one in a process with a simulated GPU; see ``simulated_cuda.run_on_gpu``."""
    return functools.partial(simulated_cuda.run_on_gpu, simulated_cuda.build())


@pytest.fixture(scope="session")
def two_gpus():
    """A function that runs another one in two processes with a simulated GPU each, and gives it their ranks."""
    library = simulated_cuda.build()

    def run(function, *arguments):
        started = [simulated_cuda.start_on_gpu(library, function, rank, *arguments) for rank in range(2)]
        return [simulated_cuda.wait_for(process) for process in started]

    return run

"""Matrix products by oneDNN equal PyTorch's, with their gradients."""

import pytest
import torch
import torch.nn.functional as F

from b2t_fairseq.kernels import linear


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (1, 7), (0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_map_equals_pytorchs(shape, bias, onednn):
    generator = torch.Generator().manual_seed(1)
    x, weight, offset = (torch.randn(size, generator=generator) for size in (shape, (11, 7), (11,)))
    results = []
    for function in (F.linear, linear.linear):
        inputs = [tensor.clone().requires_grad_() for tensor in ((x, weight, offset) if bias else (x, weight))]
        output = function(*inputs)
        # The gradient of a sum is an expanded tensor without memory of its own.
        output.sum().backward()
        results.append([output.detach(), *(tensor.grad for tensor in inputs)])
    for theirs, ours in zip(*results, strict=True):
        assert theirs.shape == ours.shape
        assert torch.allclose(theirs, ours, atol=1e-5)


def test_only_trained_parameters_get_gradients(onednn):
    """This may be the bias alone, or the input alone."""
    bias = torch.zeros(3, requires_grad=True)
    linear.linear(torch.ones(4, 2), torch.ones(3, 2), bias).sum().backward()
    assert bias.grad.tolist() == [4, 4, 4]
    weight = torch.ones(3, 2)
    x = torch.ones(4, 2, requires_grad=True)
    linear.linear(x, weight).sum().backward()
    assert torch.equal(x.grad, torch.full((4, 2), 3.0))
    assert weight.grad is None


def test_a_product_of_two_matrices_equals_pytorchs(onednn):
    first, second = torch.randn(5, 7), torch.randn(7, 3)
    assert torch.allclose(linear.matmul(first, second), first @ second, atol=1e-5)
    assert torch.allclose(linear.matmul(second.t(), first.t()), (first @ second).t(), atol=1e-5)


def test_a_layer_with_hooks_is_called():
    layer = torch.nn.Linear(3, 3)
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    x = torch.randn(2, 3)
    assert torch.equal(linear.linear_layer(layer, x), layer(x))
    assert not torch.equal(linear.linear_layer(layer, x), F.linear(x, layer.weight, layer.bias))


def test_onednn_is_used_where_it_is_faster(monkeypatch):
    """This is on processors that are not Intel's: with AVX-512 for all products, with AVX2 for all but a few rows."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    x, onednn = {rows: torch.ones(rows, 2) for rows in (1, 31, 32)}, linear.onednn_is_faster.__wrapped__
    monkeypatch.setattr(linear, "onednn_is_faster", onednn)
    monkeypatch.setattr(linear, "least_rows", linear.least_rows.__wrapped__)
    for intel, capability, rows in (
        (True, "AVX512", []),
        (False, "AVX512", [1, 31, 32]),
        (False, "AVX2", [32]),
        (True, "AVX2", []),
        (False, "DEFAULT", []),
    ):
        monkeypatch.setattr(linear, "_is_from_intel", lambda intel=intel: intel)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert [number for number in x if linear._is_for_onednn(x[number], 2**19)] == rows

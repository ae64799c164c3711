"""Which layers share their parameters, and how parameters are tied."""

import pytest
import torch
from helpers import make_model
from torch import nn

from b2t_fairseq.sharing import STRATEGIES, layer_indices, possible_sets
from b2t_fairseq.tying import same_layers, shared_parameters, tie_parameters

EXPECTED = {
    ("none", 6, None): [0, 1, 2, 3, 4, 5],
    ("sequence", 6, 3): [0, 0, 1, 1, 2, 2],
    ("cycle", 6, 3): [0, 1, 2, 0, 1, 2],
    ("cycle_rev", 6, 3): [0, 1, 2, 2, 1, 0],
    ("sequence", 18, 6): [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5],
    ("cycle", 18, 6): [0, 1, 2, 3, 4, 5] * 3,
    ("cycle_rev", 18, 6): [0, 1, 2, 3, 4, 5] * 2 + [5, 4, 3, 2, 1, 0],
    ("cycle_rev", 2, 1): [0, 0],
    ("cycle_rev", 4, 4): [0, 1, 2, 3],
    ("sandwich", 6, 3): [0, 1, 1, 1, 1, 2],
    ("sandwich", 8, 5): [0, 1, 1, 2, 2, 3, 3, 4],
    ("sandwich", 4, 4): [0, 1, 2, 3],
    ("sandwich", 1, 1): [0],
}


@pytest.mark.parametrize(("strategy", "n", "m"), EXPECTED)
def test_index_lists_are_the_papers(strategy, n, m):
    assert layer_indices(strategy, n, m) == EXPECTED[strategy, n, m]


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "none"])
def test_every_possible_number_of_sets_has_an_index_list(strategy):
    """Sets are numbered in the order of their first layer; other numbers of sets are refused."""
    for n in range(1, 25):
        for m in range(1, n + 1):
            if m in possible_sets(strategy, n):
                indices = layer_indices(strategy, n, m)
                assert len(indices) == n
                assert list(dict.fromkeys(indices)) == list(range(m))
            else:
                with pytest.raises(ValueError, match=f"{m} unique layers .* {n} layers"):
                    layer_indices(strategy, n, m)
    assert layer_indices(strategy, 12, 12) == list(range(12))


@pytest.mark.parametrize("strategy", ["sequence", "cycle", "cycle_rev"])
def test_the_papers_strategies_use_each_set_equally_often(strategy):
    """The number of sets is any divisor of the number of layers."""
    for n in range(1, 25):
        assert possible_sets(strategy, n) == [m for m in range(1, n + 1) if n % m == 0]
        for m in possible_sets(strategy, n):
            assert sorted(layer_indices(strategy, n, m)) == sorted(list(range(m)) * (n // m))


def test_tied_parameters_are_the_same_objects_in_distinct_modules():
    model = make_model(layer_sharing="cycle_rev", encoder_unique_layers=3, decoder_unique_layers=2)
    for stack, indices in ((model.encoder, [0, 1, 2, 2, 1, 0]), (model.decoder, [0, 1, 0, 1, 1, 0])):
        assert stack.indices == indices
        assert len({id(layer) for layer in stack.layers}) == 6
        assert len({id(layer.self_attn) for layer in stack.layers}) == 6
        for first in range(6):
            for second in range(6):
                pairs = zip(stack.layers[first].parameters(), stack.layers[second].parameters(), strict=True)
                assert all((a is b) == (indices[first] == indices[second]) for a, b in pairs)


def test_tied_gradient_is_the_sum_over_layers():
    torch.manual_seed(0)
    tied, free = ([nn.Linear(3, 3) for _ in range(4)] for _ in range(2))
    tie_parameters(tied, [0, 1, 0, 1])
    for layer, twin in zip(free, tied, strict=True):
        layer.load_state_dict(twin.state_dict())
    x = torch.randn(5, 3)
    for layers in (tied, free):
        out = x
        for layer in layers:
            out = torch.tanh(layer(out))
        out.square().sum().backward()
    assert torch.allclose(tied[0].weight.grad, free[0].weight.grad + free[2].weight.grad, atol=1e-6)


def test_mismatches_are_refused_and_nothing_is_tied():
    layers = [nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 4)]
    with pytest.raises(ValueError, match=r"layer 2 cannot share parameter set 0.*bias, weight"):
        tie_parameters(layers, [0, 0, 0])
    assert layers[0].weight is not layers[1].weight
    with pytest.raises(ValueError, match=r"layer 1 cannot share parameter set 0.*bias"):
        tie_parameters([nn.Linear(3, 3), nn.Linear(3, 3, bias=False)], [0, 0])
    with pytest.raises(ValueError, match="3 layers, but 2 indices"):
        tie_parameters(layers, [0, 0])


def test_unshared_parameters_stay_untied():
    """A module names in ``unshared_parameters`` what each layer keeps for itself, such as Admin's omega."""

    class Scaled(nn.Module):
        unshared_parameters = ("omega",)

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.omega = nn.Parameter(torch.ones(2))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.scaled = Scaled()

    layers = [Layer(), Layer()]
    tie_parameters(layers, [0, 0])
    assert layers[0].scaled.linear.weight is layers[1].scaled.linear.weight
    assert layers[0].scaled.omega is not layers[1].scaled.omega
    assert list(shared_parameters(layers[0])) == ["scaled.linear.weight", "scaled.linear.bias"]


def test_the_index_list_is_read_from_tied_parameters():
    for strategy, n, m in EXPECTED:
        layers = [nn.Linear(2, 2) for _ in range(n)]
        indices = layer_indices(strategy, n, m)
        tie_parameters(layers, indices)
        assert same_layers([dict(layer.named_parameters()) for layer in layers]) == indices

"""Products of reordered weights equal those of the weights as they are."""

import copy
from argparse import Namespace

import pytest
import torch
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from helpers import make_dictionary, make_model, make_task, randomize
from searching import WORDS, best, make_sentences
from torch import nn

from b2t_fairseq.kernels import reordered
from b2t_fairseq.kernels.linear import linear_layer, reordered_product
from b2t_fairseq.kernels.quantized import quantize
from b2t_fairseq.kernels.reordered import reorder_weights

pytestmark = pytest.mark.skipif(not reordered.can_reorder(), reason="this PyTorch cannot reorder weights for oneDNN")

SHARING = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2}


@pytest.fixture(autouse=True)
def small_weights_too(monkeypatch):
    monkeypatch.setattr(reordered, "_SMALLEST", 1)


def make_layer(in_dim=7, out_dim=11, bias=True):
    torch.manual_seed(1)
    return nn.Linear(in_dim, out_dim, bias=bias)


@pytest.mark.parametrize("shape", [(1, 7), (5, 7), (2, 3, 7), (200, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_equals_pytorchs(shape, bias):
    layer, x = make_layer(bias=bias), torch.randn(shape)
    assert reorder_weights(nn.Sequential(layer)) == 1
    with torch.no_grad():
        assert reordered_product(layer) is not None
        assert torch.allclose(linear_layer(layer, x), layer(x), atol=1e-5)


def test_weights_that_change_are_read_as_before():
    layer, x = make_layer(), torch.randn(3, 7)
    reorder_weights(nn.Sequential(layer))
    for change in (
        lambda: layer.load_state_dict(make_layer(bias=True).state_dict()),
        lambda: layer.bias.add_(1),
        lambda: setattr(layer, "weight", nn.Parameter(torch.ones(11, 7))),
    ):
        with torch.no_grad():
            change()
            assert reordered_product(layer) is None
            assert torch.allclose(linear_layer(layer, x), layer(x), atol=1e-5)


def test_gradients_are_computed_without_them():
    layer = make_layer()
    reorder_weights(nn.Sequential(layer))
    linear_layer(layer, torch.ones(2, 7)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.full((11, 7), 2.0))


def test_small_and_other_weights_stay(monkeypatch):
    assert reorder_weights(nn.Sequential(make_layer().half())) == 0
    monkeypatch.setattr(reordered, "_SMALLEST", 100)
    assert reorder_weights(nn.Sequential(make_layer())) == 0


def test_copies_have_no_reordered_weights():
    model = nn.Sequential(make_layer())
    reorder_weights(model)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        assert reordered_product(copied[0]) is None
        assert torch.equal(linear_layer(copied[0], torch.ones(1, 7)), model[0](torch.ones(1, 7)))
    assert model.state_dict().keys() == {"0.weight", "0.bias"}


def generator_for(model, **settings):
    dictionary = make_dictionary(WORDS)
    task = TranslationTask(TranslationConfig(), dictionary, dictionary)
    return task.build_generator([model], Namespace(beam=4, max_len_b=12, **settings))


def test_models_prepared_for_inference_translate_with_them():
    """Their translations are the same as before; a model that can still be trained keeps its weights alone."""
    model, batch = randomize(make_model(task=make_task(WORDS), **SHARING)).eval(), make_sentences()
    before = generator_for(model).generate([model], batch)
    assert not any("reordered" in vars(module) for module in model.modules())
    model.prepare_for_inference_(Namespace(generation=Namespace()))
    after = generator_for(model).generate([model], batch)
    with torch.no_grad():
        products = [reordered_product(layer.self_attn, "q", "k", "v") for layer in model.decoder.layer_list()]
    assert None not in products
    # Layers that share parameters share their reordered weights.
    assert len(set(map(id, products))) == 2
    assert best(after) == best(before)
    for ours, theirs in zip(after, before, strict=True):
        assert ours[0]["score"] == pytest.approx(float(theirs[0]["score"]), abs=1e-5)


def test_8_bit_weights_come_first():
    """A model that has reordered weights may become one of 8-bit weights."""
    model = randomize(make_model(task=make_task(WORDS))).eval()
    other, batch = copy.deepcopy(model), make_sentences()
    reorder_weights(model)
    quantize(model)
    quantize(other)
    assert best(generator_for(model).generate([model], batch)) == best(generator_for(other).generate([other], batch))

"""Translation in bfloat16: what a product is, what is shared, and how far models and searches are from float32."""

import copy

import pytest
import torch
from helpers import make_batch, make_dictionary, make_model, make_task, randomize, step_by_step_logits
from language_models import make_lm, make_lm_batch
from searching import WORDS, best, forced_scores, make_sentences, make_translator, search
from speech import make_speech_batch, make_speech_model, make_speech_task
from torch import nn

from b2t_common.errors import InputError
from b2t_fairseq.decoding import BeamSearchGenerator
from b2t_fairseq.kernels import bfloat16
from b2t_fairseq.kernels.bfloat16 import BFloat16Linear, to_bfloat16

SHARING = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2}


@pytest.fixture(params=[True, False], ids=["reordered", "plain"])
def is_reordered(request, monkeypatch):
    """Whether oneDNN has put the weights into its own order, whatever the processor is."""
    if request.param and not bfloat16._can_reorder():
        pytest.skip("this processor or this PyTorch cannot reorder weights in bfloat16")
    monkeypatch.setattr(bfloat16, "_can_reorder", lambda: request.param)
    return request.param


def make_layer(in_dim=48, out_dim=33, seed=1, bias=True):
    return randomize(nn.Linear(in_dim, out_dim, bias=bias), seed)


def replaced(layer):
    parent = nn.Sequential(layer)
    assert to_bfloat16(parent) == 1
    return parent[0]


def make_input(rows=7, in_dim=48):
    return torch.randn(rows, in_dim, generator=torch.Generator().manual_seed(3)) + 0.3


@pytest.mark.usefixtures("is_reordered")
class TestProduct:
    @pytest.mark.parametrize("bias", [True, False])
    def test_inputs_and_weights_are_rounded_and_sums_are_exact(self, bias):
        layer, x = make_layer(bias=bias), make_input()
        expected = x.bfloat16().double() @ layer.weight.bfloat16().double().t()
        expected = expected if layer.bias is None else expected + layer.bias.double()
        actual = replaced(layer)(x)
        assert actual.dtype == torch.float32
        # A number of bfloat16 has 8 binary digits.
        assert torch.allclose(actual.double(), expected, rtol=2**-8, atol=2**-8)

    def test_joined_layers_and_rows_give_the_same_numbers(self):
        layers = [replaced(make_layer(seed=seed)) for seed in (1, 2, 3)]
        x, places = make_input().view(7, 1, 48), torch.tensor([32, 0, 7])
        joined = layers[0].joined(layers[1:])
        outputs = torch.cat([layer(x) for layer in layers], dim=-1)
        assert torch.equal(joined(x), outputs)
        assert layers[0].joined(layers[1:]) is joined
        assert torch.equal(layers[0].rows(places)(x), outputs[..., places])

    def test_a_copy_computes_the_same(self):
        layer, x = replaced(make_layer()), make_input()
        assert torch.equal(copy.deepcopy(layer)(x), layer(x))

    def test_other_precisions_are_refused(self):
        with pytest.raises(InputError, match=r"these are in torch\.float64 on cpu"):
            replaced(make_layer())(make_input().double())


class TestModels:
    def test_shared_parameters_are_converted_once(self):
        model = make_model(task=make_task(WORDS), **SHARING).eval()
        weights = {id(p) for p in model.parameters() if p.dim() == 2}
        to_bfloat16(model)
        # modules() names each module once; all weights but the embedding, which is the output layer too, are there
        assert sum(isinstance(module, BFloat16Linear) for module in model.modules()) == len(weights)

    @pytest.mark.parametrize("scheme", ["b2t", "pre_ln", "sub_ln"])
    def test_both_kernels_are_close_to_float32(self, scheme):
        batch, outputs = make_batch(), {}
        for kernels in ("fast", "fairseq"):
            model = randomize(make_model(residual=scheme, kernels=kernels, **SHARING)).eval()
            with torch.no_grad():
                exact = model(**batch["net_input"])[0]
                assert to_bfloat16(model) == 6 * 6 + 6 * 10 + 1
                assert not any(isinstance(module, nn.Linear) for module in model.modules())
                outputs[kernels] = model(**batch["net_input"])[0]
            assert 0 < (outputs[kernels] - exact).square().mean().sqrt() < 0.02 * exact.std()
        assert (outputs["fast"] - outputs["fairseq"]).abs().max() < 0.05 * exact.std()

    def test_a_language_model_is_close_to_float32_step_by_step(self):
        model, batch = randomize(make_lm()).eval(), make_lm_batch()
        with torch.no_grad():
            before = step_by_step_logits(model, batch)
            assert to_bfloat16(model) > 0
            after = step_by_step_logits(model, batch)
        assert 0 < (after - before).square().mean().sqrt() < 0.02 * before.std()

    def test_on_a_gpu_the_whole_model_is_in_bfloat16(self):
        """Tensors without numbers stand for those of a GPU."""
        model = make_model(task=make_task(WORDS)).to("meta")
        assert to_bfloat16(model) == 0
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}

    def test_a_processor_without_its_instructions_is_named(self, monkeypatch, caplog):
        for is_fast, warnings in ((True, 0), (False, 1)):
            monkeypatch.setattr(bfloat16, "is_fast", lambda is_fast=is_fast: is_fast)
            replaced(make_layer())
            assert caplog.text.count("no instructions for bfloat16") == warnings


class TestSearch:
    @pytest.mark.parametrize("kernels", ["fast", "fairseq"])
    def test_scores_are_close_to_those_of_teacher_forcing(self, kernels):
        model, exact = make_translator(kernels=kernels, **SHARING), make_translator(**SHARING)
        batch = make_sentences()
        for place, of_sentence in enumerate(search(model, batch, bf16=True)):
            for hypothesis in of_sentence:
                expected = forced_scores(exact, batch, place, hypothesis["tokens"])
                assert abs(hypothesis["positional_scores"] - expected).mean() < 0.02
        assert isinstance(model.decoder.layers[0].fc1, BFloat16Linear)

    def test_our_own_search_is_used(self):
        model = make_translator()
        to_bfloat16(model)
        assert BeamSearchGenerator([model], make_dictionary(WORDS))._is_plain()

    def test_a_whole_model_in_bfloat16_translates_as_one_in_float32(self):
        """This is what a GPU does; some translations change."""
        batch = make_sentences()
        exact = best(search(make_translator(), batch))
        for kernels in ("fast", "fairseq"):
            found = best(search(make_translator(kernels=kernels).bfloat16(), batch))
            assert sum(own == other for own, other in zip(found, exact, strict=True)) >= len(exact) / 2

    @pytest.mark.parametrize("convert", [to_bfloat16, nn.Module.bfloat16], ids=["products", "whole model"])
    def test_scores_of_speech_are_close_to_float32(self, convert):
        model = randomize(make_speech_model(task=make_speech_task(WORDS))).eval()
        generator = BeamSearchGenerator([model], make_dictionary(WORDS), beam_size=2, max_len_b=9)
        before = generator.generate([model], make_speech_batch())
        convert(model)
        after = generator.generate([model], make_speech_batch())
        for own, exact in zip(after, before, strict=True):
            assert own[0]["score"] == pytest.approx(float(exact[0]["score"]), abs=0.2)

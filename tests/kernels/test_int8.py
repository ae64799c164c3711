"""8-bit weights: what a product is, what is shared, and how far models and searches are from float32."""

import copy

import pytest
import torch
from helpers import make_batch, make_dictionary, make_model, make_task, randomize, step_by_step_logits
from language_models import ADAPTIVE, make_lm, make_lm_batch
from searching import WORDS, forced_scores, make_sentences, make_translator, search
from speech import make_speech_batch, make_speech_model, make_speech_task
from torch import nn

from b2t_common.errors import InputError
from b2t_fairseq.decoding import BeamSearchGenerator
from b2t_fairseq.kernels import quantized
from b2t_fairseq.kernels.quantized import Int8Linear, quantize
from b2t_fairseq.residual import SCHEMES

pytestmark = pytest.mark.skipif(quantized.engine_name() is None, reason="this PyTorch has no 8-bit products")

SHARING = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2}


def make_layer(in_dim=48, out_dim=33, seed=1):
    """Return a linear layer whose rows have very different sizes."""
    layer = randomize(nn.Linear(in_dim, out_dim), seed)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-3, 3, out_dim).unsqueeze(1))
    return layer


def quantized_layer(layer):
    """Return the layer with 8-bit weights."""
    parent = nn.Sequential(layer)
    assert quantize(parent) == 1
    return parent[0]


def make_input(rows=7, in_dim=48):
    return torch.randn(rows, in_dim, generator=torch.Generator().manual_seed(3)) + 0.3


@pytest.fixture(params=[127, 63])
def largest(request, monkeypatch):
    """The largest whole number of a weight, whatever the processor is."""
    if request.param > quantized.largest_weight():
        pytest.skip("weights up to 127 need a processor with VNNI")
    monkeypatch.setattr(quantized, "largest_weight", lambda: request.param)
    return request.param


class TestProduct:
    def test_product_is_that_of_rounded_weights_and_inputs(self, largest):
        layer, x = make_layer(), make_input()
        scales = layer.weight.abs().amax(dim=1, keepdim=True) / largest
        weight = (layer.weight / scales).round() * scales
        unit = (x.max() - x.min()) / 255
        zero = (-x.min() / unit).round()
        rounded = ((x / unit).round() + zero).clamp(0, 255) - zero
        expected = (rounded * unit).double() @ weight.double().t() + layer.bias.double()
        actual = quantized_layer(layer)(x).double()
        assert torch.allclose(actual, expected, rtol=1e-5, atol=1e-5 * scales.max().item())

    def test_each_output_channel_has_its_own_scale(self, largest):
        """Errors are as small in rows of small weights, relative to them, as in those of large ones."""
        layer, x = make_layer(), make_input()
        layer.bias.data.zero_()
        errors = (quantized_layer(layer)(x) - layer(x)).norm(dim=0) / layer(x).norm(dim=0)
        assert errors.max() < 0.05

    def test_largest_numbers_do_not_saturate(self):
        """Without VNNI, sums of two products of 8 bits do not fit; smaller weights prevent that."""
        layer = nn.Linear(256, 64, bias=False)
        nn.init.constant_(layer.weight, 0.5)
        x = torch.full((2, 256), 3.0)
        assert torch.allclose(quantized_layer(layer)(x), layer(x), rtol=1e-3)

    def test_joined_layers_give_the_same_numbers(self):
        layers = [quantized_layer(make_layer(seed=seed)) for seed in (1, 2, 3)]
        x = make_input().view(7, 1, 48)
        joined = layers[0].joined(layers[1:])
        assert torch.equal(joined(x), torch.cat([layer(x) for layer in layers], dim=-1))
        assert layers[0].joined(layers[1:]) is joined

    def test_other_precisions_are_refused(self):
        layer = quantized_layer(make_layer())
        with pytest.raises(InputError, match=r"these are in torch\.float64 on cpu"):
            layer(make_input().double())
        with pytest.raises(InputError, match=r"drop --fp16"):
            quantize(nn.Sequential(nn.Linear(4, 4).half()))

    def test_the_engine_of_the_process_stays(self):
        before = torch.backends.quantized.engine
        others = [name for name in torch.backends.quantized.supported_engines if name != quantized.engine_name()]
        try:
            torch.backends.quantized.engine = others[0]
            quantized_layer(make_layer())
            assert torch.backends.quantized.engine == others[0]
        finally:
            torch.backends.quantized.engine = before

    def test_pytorch_without_engine_is_named(self, monkeypatch):
        monkeypatch.setattr(quantized, "engine_name", lambda: None)
        with pytest.raises(
            InputError, match=rf"this PyTorch, {torch.__version__.split('+')[0]}.* has no 8-bit products"
        ):
            quantize(nn.Sequential(nn.Linear(4, 4)))


@pytest.mark.skipif(
    not {"fbgemm", "onednn"} <= set(torch.backends.quantized.supported_engines), reason="PyTorch without both libraries"
)
class TestManyRows:
    """oneDNN computes large products, where the processor has what it is fast with."""

    @pytest.fixture
    def both_engines(self, monkeypatch):
        monkeypatch.setattr(quantized, "has_engine_for_many", lambda: True)
        monkeypatch.setattr(quantized, "_MANY", 33 * 100)

    def test_large_products_are_those_of_small_ones(self, both_engines):
        layer, x = quantized_layer(make_layer()), make_input(rows=100)
        # The scale is of the whole input, so each has the smallest and the largest number in it.
        edges = torch.stack((x.min(), x.max())).unsqueeze(1).expand(2, 48)
        large = layer(torch.cat((edges, x)))[2:]
        assert layer._packed_for_many is not None
        small = torch.cat([layer(torch.cat((edges, part)))[2:] for part in x.split(50)])
        assert torch.allclose(large, small, rtol=1e-6, atol=1e-6 * large.abs().max().item())

    def test_few_rows_need_no_second_weights(self, both_engines):
        layer = quantized_layer(make_layer())
        layer(make_input(rows=100))
        assert layer._packed_for_many is None

    def test_a_copy_computes_the_same(self, both_engines):
        layer, x = quantized_layer(make_layer()), make_input(rows=101)
        assert torch.equal(copy.deepcopy(layer)(x), layer(x))

    @pytest.mark.parametrize(
        ("instructions", "by_fbgemm", "by_onednn", "expected"),
        [("AVX512", 127, 127, True), ("AVX512", 127, 63, False), ("AVX512", 63, 63, False), ("AVX2", 127, 127, False)],
    )
    def test_onednn_is_used_where_it_is_fast_and_exact(self, instructions, by_fbgemm, by_onednn, expected, monkeypatch):
        """Many rows need AVX-512, and both engines must be exact for weights of all 8 bits."""
        monkeypatch.setattr(quantized, "instructions", lambda: instructions)
        monkeypatch.setattr(quantized, "largest_weight", lambda: by_fbgemm)
        monkeypatch.setattr(quantized, "_largest_exact_weight", {"onednn": by_onednn}.get)
        assert quantized.has_engine_for_many.__wrapped__() == expected


class TestModels:
    def test_shared_parameters_are_quantized_once(self):
        model = make_model(task=make_task(WORDS), **SHARING).eval()
        weights = {id(p) for p in model.parameters() if p.dim() == 2}
        quantize(model)
        layers = [module for module in model.modules() if isinstance(module, Int8Linear)]
        # modules() names each module once; all weights but the embedding, which is the output layer too, are there
        assert len(layers) == len(weights)
        stack = model.decoder.layer_list()
        for first, index in zip(stack, model.decoder.indices, strict=True):
            for second, other in zip(stack, model.decoder.indices, strict=True):
                assert (first.fc1 is second.fc1) == (index == other)
                joined = first.self_attn.packed("q", "k", "v") is second.self_attn.packed("q", "k", "v")
                assert joined == (index == other)

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_every_scheme_is_close_to_float32_with_both_kernels(self, scheme):
        batch, outputs = make_batch(), {}
        for kernels in ("fast", "fairseq"):
            model = randomize(make_model(residual=scheme, kernels=kernels, **SHARING)).eval()
            with torch.no_grad():
                outputs[kernels] = model(**batch["net_input"])[0]
                # every linear layer of a stack has 8-bit weights
                assert quantize(model) == 6 * 6 + 6 * 10 + 1
                assert not any(type(module) is nn.Linear for module in model.modules())
                outputs[f"{kernels}, int8"] = model(**batch["net_input"])[0]
        size = outputs["fast"].std()
        error = (outputs["fast, int8"] - outputs["fast"]).square().mean().sqrt()
        assert 0 < error < 0.1 * size
        difference = (outputs["fast, int8"] - outputs["fairseq, int8"]).abs().max()
        assert difference < 0.1 * size

    @pytest.mark.parametrize("flags", [{}, ADAPTIVE], ids=["tied", "adaptive"])
    def test_language_models_are_close_to_float32_step_by_step(self, flags):
        model, batch = randomize(make_lm(**flags)).eval(), make_lm_batch()
        with torch.no_grad():
            before = step_by_step_logits(model, batch)
            assert quantize(model) > 0
            after = step_by_step_logits(model, batch)
        assert 0 < (after - before).square().mean().sqrt() < 0.1 * before.std()


class TestSearch:
    @pytest.mark.parametrize("scheme", ["b2t", "pre_ln"])
    def test_one_sentence_decodes_as_fairseq_decodes_it(self, scheme):
        """With one hypothesis both searches compute the same products; larger batches have other scales of inputs."""
        results = []
        for kernels in ("fast", "fairseq"):
            model = make_translator(residual=scheme, kernels=kernels)
            found = [search(model, make_sentences(1, first), beam=1, int8=True)[0][0] for first in range(3)]
            assert isinstance(model.decoder.layers[0].fc1, Int8Linear)
            results.append(found)
        for own, theirs in zip(*results, strict=True):
            assert torch.equal(own["tokens"], theirs["tokens"])
            assert torch.allclose(own["positional_scores"], theirs["positional_scores"], atol=0.02)

    def test_scores_are_close_to_those_of_teacher_forcing(self):
        model, exact = make_translator(**SHARING), make_translator(**SHARING)
        batch = make_sentences()
        for place, of_sentence in enumerate(search(model, batch, int8=True)):
            for hypothesis in of_sentence:
                expected = forced_scores(exact, batch, place, hypothesis["tokens"])
                assert torch.allclose(hypothesis["positional_scores"], expected, atol=0.5)
                assert abs(hypothesis["positional_scores"] - expected).mean() < 0.1

    def test_our_own_search_is_used(self):
        model = make_translator()
        quantize(model)
        assert BeamSearchGenerator([model], make_dictionary(WORDS))._is_plain()

    def test_speech_translates_with_eight_bits(self):
        model = randomize(make_speech_model(task=make_speech_task(WORDS))).eval()
        generator = BeamSearchGenerator([model], make_dictionary(WORDS), beam_size=2, max_len_b=9)
        before = generator.generate([model], make_speech_batch())
        assert quantize(model) > 0
        after = generator.generate([model], make_speech_batch())
        for own, exact in zip(after, before, strict=True):
            assert own[0]["score"] == pytest.approx(float(exact[0]["score"]), abs=0.2)

"""``--kernels fast`` computes what ``--kernels fairseq`` does, within rounding; ``--compile`` too."""

import pytest
import torch
import torch.nn.functional as F
from helpers import make_batch, make_lm, make_model, make_task, randomize

from b2t_common.errors import InputError
from b2t_fairseq import admin_profile
from b2t_fairseq.kernels import compilation, linear
from b2t_fairseq.kernels.attention import FusedMultiheadAttention
from b2t_fairseq.kernels.compilation import CompiledInTraining
from b2t_fairseq.residual import SCHEMES

FLAGS = [
    {},
    {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2},
    {"share_all_embeddings": False, "encoder_embed_dim": 24, "decoder_embed_dim": 16, "decoder_ffn_embed_dim": 40},
    {"activation_fn": "gelu", "decoder_learned_pos": True, "layernorm_embedding": True},
    {"no_cross_attention": True, "cross_self_attention": True},
    {"checkpoint_activations": True},
    {"quant_noise_pq": 0.5, "quant_noise_pq_block_size": 4},
]


@pytest.fixture(params=[True, False], ids=["onednn", "pytorch"])
def onednn(request, monkeypatch):
    """Products of both libraries, on whatever processor."""
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("PyTorch without oneDNN")
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: request.param)


def pair(**flags):
    return [randomize(make_model(kernels=kernels, **flags)) for kernels in ("fairseq", "fast")]


def logits_and_gradients(model, batch):
    torch.manual_seed(3)
    logits, _ = model(**batch["net_input"])
    # padded positions count nothing in any loss
    real = logits[batch["target"] != 1]
    real.logsumexp(dim=-1).square().sum().backward()
    return real.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_close(first, second):
    (logits, gradients), (other_logits, other_gradients) = first, second
    assert torch.allclose(logits, other_logits, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == other_gradients.keys()
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (gradient - other_gradients[name]).abs().max() < 2e-6 * scale, name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_logits_and_gradients_for_every_scheme(scheme, onednn):
    for padding in (True, False):
        batch = make_batch(padding=padding)
        assert_close(*(logits_and_gradients(model.train(), batch) for model in pair(residual=scheme)))


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: " ".join(flags) or "default")
def test_same_logits_and_gradients_with_flags(flags, onednn):
    assert_close(*(logits_and_gradients(model.train(), make_batch()) for model in pair(**flags)))


def test_dropout_draws_the_same_numbers():
    models = pair(dropout=0.3, activation_dropout=0.2)
    assert_close(*(logits_and_gradients(model.train(), make_batch()) for model in models))


def test_validation_gives_the_same_logits(onednn):
    batch = make_batch()
    logits = [model.eval()(**batch["net_input"])[0][batch["target"] != 1] for model in pair()]
    assert torch.allclose(*logits, rtol=1e-5, atol=1e-5)


def test_language_model_gives_the_same(onednn):
    tokens = torch.randint(4, 24, (3, 9), generator=torch.Generator().manual_seed(1))
    logits = []
    for kernels in ("fairseq", "fast"):
        logits.append(randomize(make_lm(kernels=kernels)).train()(tokens)[0])
    assert torch.allclose(*logits, rtol=1e-5, atol=1e-5)


def test_bfloat16_gives_the_same():
    logits = [model.bfloat16().eval()(**make_batch()["net_input"])[0].float() for model in pair()]
    assert (logits[0] - logits[1]).abs().max() < 0.03 * logits[0].abs().max()


def test_parameters_are_those_of_fairseqs_kernels():
    exact, fast = pair()
    assert list(exact.state_dict()) == list(fast.state_dict())
    exact.load_state_dict(fast.state_dict())


def test_targets_padded_on_the_right_need_no_mask(monkeypatch):
    """What the mask would hide comes later than whatever could see it."""
    task = make_task()
    for left_pad_target, masks in ((False, 0), (True, 6)):
        task.cfg = type("Settings", (), {"left_pad_target": left_pad_target})
        model = randomize(make_model(task=task, encoder_layers=1)).train()
        seen = []

        attend = F.scaled_dot_product_attention

        def attention(query, key, value, attn_mask=None, seen=seen, attend=attend, **settings):
            if settings["is_causal"] or (attn_mask is not None and attn_mask.size(2) == query.size(2) > 1):
                seen.append(attn_mask)
            return attend(query, key, value, attn_mask=attn_mask, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(F, "scaled_dot_product_attention", attention)
            logits, _ = model(**make_batch()["net_input"])
        assert len(seen) == 6
        assert sum(mask is not None for mask in seen) == masks
        exact = randomize(make_model(task=task, encoder_layers=1, kernels="fairseq")).train()
        real = make_batch()["target"] != 1
        assert torch.allclose(logits[real], exact(**make_batch()["net_input"])[0][real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("no_cross_attention", [True, False])
def test_one_attention_to_both_sides_does_not_see_the_sources_padding(no_cross_attention):
    """With --cross-self-attention, where targets, as all of fairseq's for translation, are padded on the right."""
    task = make_task()
    task.cfg = type("Settings", (), {"left_pad_target": False})
    flags = {"task": task, "cross_self_attention": True, "no_cross_attention": no_cross_attention}
    assert_close(*(logits_and_gradients(model.train(), make_batch()) for model in pair(**flags)))


def test_attention_weights_are_still_there():
    exact, fast = pair()
    weights = [model.eval()(**make_batch()["net_input"], alignment_layer=2)[1]["attn"][0] for model in (exact, fast)]
    assert torch.allclose(*weights, atol=1e-5)
    assert isinstance(fast.decoder.layers[0].encoder_attn, FusedMultiheadAttention)
    assert not isinstance(exact.decoder.layers[0].encoder_attn, FusedMultiheadAttention)


class TestLinear:
    @pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (1, 7), (0, 7)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_equals_pytorchs(self, shape, bias, onednn):
        generator = torch.Generator().manual_seed(1)
        x, weight, offset = (torch.randn(size, generator=generator) for size in (shape, (11, 7), (11,)))
        results = []
        for function in (F.linear, linear.linear):
            inputs = [tensor.clone().requires_grad_() for tensor in ((x, weight, offset) if bias else (x, weight))]
            output = function(*inputs)
            # expanded, with no memory of its own
            output.sum().backward()
            results.append([output.detach(), *(tensor.grad for tensor in inputs)])
        for theirs, ours in zip(*results, strict=True):
            assert theirs.shape == ours.shape
            assert torch.allclose(theirs, ours, atol=1e-5)

    def test_frozen_weights(self, onednn):
        """Only what is trained gets a gradient, a bias alone too."""
        bias = torch.zeros(3, requires_grad=True)
        linear.linear(torch.ones(4, 2), torch.ones(3, 2), bias).sum().backward()
        assert bias.grad.tolist() == [4, 4, 4]
        weight = torch.ones(3, 2)
        x = torch.ones(4, 2, requires_grad=True)
        linear.linear(x, weight).sum().backward()
        assert torch.equal(x.grad, torch.full((4, 2), 3.0))
        assert weight.grad is None

    def test_product_equals_pytorchs(self, onednn):
        first, second = torch.randn(5, 7), torch.randn(7, 3)
        assert torch.allclose(linear.matmul(first, second), first @ second, atol=1e-5)
        assert torch.allclose(linear.matmul(second.t(), first.t()), (first @ second).t(), atol=1e-5)

    def test_a_layer_with_hooks_is_called(self):
        layer = torch.nn.Linear(3, 3)
        layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
        x = torch.randn(2, 3)
        assert torch.equal(linear.linear_layer(layer, x), layer(x))
        assert not torch.equal(linear.linear_layer(layer, x), F.linear(x, layer.weight, layer.bias))

    def test_chosen_by_the_processor(self, monkeypatch):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        for intel, capability in ((True, "AVX512"), (False, "AVX512"), (False, "AVX2")):
            monkeypatch.setattr(linear, "_is_from_intel", lambda intel=intel: intel)
            monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
            assert linear.onednn_is_faster.__wrapped__() == (not intel and capability == "AVX512")


class TestCompile:
    @pytest.fixture(autouse=True)
    def compiler(self, monkeypatch):
        """Without code generation, which takes a minute; what PyTorch captures is the same."""
        monkeypatch.setattr(CompiledInTraining, "is_unavailable", False)
        compile_with = torch.nn.Module.compile
        monkeypatch.setattr(
            torch.nn.Module, "compile", lambda self, **flags: compile_with(self, backend="aot_eager", **flags)
        )
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        yield
        torch._dynamo.reset()

    def test_same_logits_and_gradients_from_one_graph_a_stack(self):
        """Whatever the lengths and the number of sentences, layers of one stack are compiled once."""
        plain, compiled = (randomize(make_model(compile=on)).train() for on in (False, True))
        assert list(plain.state_dict()) == list(compiled.state_dict())
        for seed, sentences in enumerate((3, 2, 3)):
            batch = make_batch(seed=seed)
            batch["net_input"] = {name: tensor[:sentences] for name, tensor in batch["net_input"].items()}
            batch["target"] = batch["target"][:sentences]
            results = []
            for model in (plain, compiled):
                model.zero_grad()
                results.append(logits_and_gradients(model, batch))
            assert_close(*results)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2

    @pytest.mark.parametrize("scheme", ["admin", "ln_scaling", "mix_ln"])
    def test_layers_of_all_depths_share_a_graph(self, scheme):
        """Those of schemes that depend on the depth; another graph for each would come to an end after eight."""
        model = randomize(make_model(compile=True, residual=scheme, encoder_layers=4, decoder_layers=4)).train()
        for layer in (*model.encoder.layers, *model.decoder.layers):
            # only captured, which is all that is looked at
            layer._compiled_call_impl = torch.compile(layer._call_impl, backend="eager", dynamic=True)
        if scheme == "admin":
            # one pass, of which nothing is compiled
            admin_profile.measure(model, make_batch()["net_input"])
            assert not torch._dynamo.utils.counters["stats"]
        model(**make_batch()["net_input"])
        # Mix-LN has layers of two kinds
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (4 if scheme == "mix_ln" else 2)

    def test_only_training_is_compiled(self):
        model = make_model(compile=True).eval()
        with torch.no_grad():
            model(**make_batch()["net_input"])
        assert not torch._dynamo.utils.counters["stats"]

    def test_goes_on_without_a_compiler(self, monkeypatch, caplog):
        class Failure(Exception):
            pass

        def fail(*args, **kwargs):
            raise Failure("no compiler\nand why")

        monkeypatch.setattr(compilation, "_failures", lambda: (Failure,))
        plain, compiled = (randomize(make_model(compile=on)).train() for on in (False, True))
        for layer in (*compiled.encoder.layers, *compiled.decoder.layers):
            layer._compiled_call_impl = fail
        logits = [model(**make_batch()["net_input"])[0] for model in (plain, compiled)]
        assert torch.equal(*logits)
        warnings = [record.getMessage() for record in caplog.records if "--compile" in record.getMessage()]
        assert warnings == ["--compile: this machine cannot compile (no compiler); training goes on without"]

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"kernels": "fairseq"}, "--compile cannot work with --kernels fairseq"),
            ({"checkpoint_activations": True}, "--compile cannot work with --checkpoint-activations"),
        ],
    )
    def test_refused(self, flags, message):
        with pytest.raises(InputError, match=message):
            make_model(compile=True, **flags)

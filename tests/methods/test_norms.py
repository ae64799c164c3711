"""Each norm equals its equation, and all norms of a model follow ``--norm``."""

import copy
import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from checks import CYCLE_REV, check_training_and_decoding
from helpers import SMALL, fill, make_batch, make_model, randomize
from language_models import make_lm
from speech import make_speech_batch, make_speech_model
from torch import nn

from b2t_common.errors import InputError
from b2t_fairseq.normalization import (
    DEFAULT,
    EPSILON,
    NORMS,
    DynamicTanh,
    Norm,
    PowerNorm,
    RMSNorm,
    ScaleNorm,
    finish_update,
    padded_norms,
)
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.settings.plan import plan_translation

DIM, HEADS = 6, 2
NOT_DEFAULT = [name for name in NORMS if name != DEFAULT]


def rms_norm(norm, x):
    return norm.weight * x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt()


EQUATIONS = {
    "rms_norm": (RMSNorm(DIM), rms_norm),
    "rms_norm-bias": (RMSNorm(DIM, rms_norm_bias=True), lambda norm, x: rms_norm(norm, x) + norm.bias),
    "dynamic_tanh": (DynamicTanh(DIM), lambda norm, x: norm.weight * (norm.alpha * x).tanh() + norm.bias),
    "scale_norm": (ScaleNorm(DIM), lambda norm, x: norm.scale * x / x.square().sum(-1, keepdim=True).sqrt()),
}


def tokens(seed=0, length=5, batch=4):
    """Return an input, (length, batch, DIM), and the gradient of its output, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, length, batch, DIM, generator=generator, dtype=torch.float64)


def outputs_and_gradients(f, parameters, x, grad_output):
    """Return the output of a function, the gradient of its input, and those of parameters."""
    x = x.clone().requires_grad_()
    output = f(x)
    return [output.detach(), *torch.autograd.grad(output, [x, *parameters], grad_output)]


def assert_all_close(first, second, tolerance=1e-12):
    for one, other in zip(first, second, strict=True):
        assert (one - other).abs().max() <= tolerance


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_norm_and_its_gradients_equal_its_equation(name):
    norm, equation = EQUATIONS[name]
    norm = randomize(copy.deepcopy(norm)).double()
    x, grad_output = tokens()
    parameters = list(norm.parameters())
    ours, theirs = (outputs_and_gradients(f, parameters, x, grad_output) for f in (norm, lambda x: equation(norm, x)))
    assert_all_close(ours, theirs)


def test_rms_norm_on_a_cpu_is_pytorchs():
    """In float32 it is computed in another way, to rounding the same; strides do not matter."""
    norm = randomize(RMSNorm(64))
    generator = torch.Generator().manual_seed(1)
    x, grad_output = torch.randn(2, 3, 5, 64, generator=generator).transpose(1, 2) + 1
    ours, theirs = (
        outputs_and_gradients(f, [norm.weight], x, grad_output)
        for f in (norm, lambda x: torch.nn.functional.rms_norm(x, (64,), norm.weight, EPSILON))
    )
    assert_all_close(ours, theirs, 1e-5)


def test_norms_begin_as_in_their_papers():
    assert DynamicTanh(16).alpha.item() == 0.5
    assert ScaleNorm(16).scale.item() == 4
    x = torch.randn(3, 2, 16)
    assert torch.allclose(ScaleNorm(16)(x), RMSNorm(16)(x), atol=1e-4)


def test_a_norm_of_zeros_is_no_division_by_zero():
    """The encoder's input is zero at padding."""
    for name in NORMS:
        x = torch.zeros(2, 3, DIM, requires_grad=True)
        output = NORMS[name].build(DIM, HEADS)(x)
        output.sum().backward()
        assert output.isfinite().all(), name
        assert x.grad.isfinite().all(), name


def test_every_norm_that_needs_the_padding_is_told():
    class Told(Norm):
        needs_padding = True

    told = Told()
    assert padded_norms(nn.ModuleList([RMSNorm(DIM), told])) == [told]


class TestPowerNorm:
    """Algorithms 1 and 2 of the PowerNorm paper, with statistics over the tokens of a whole update."""

    MASK = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True], [False] * 2 + [True] * 3]).t()

    def make(self, updates=10, **settings):
        norm = randomize(PowerNorm(DIM, HEADS, **settings)).double()
        norm.mean_square.copy_(torch.linspace(0.5, 2, DIM))
        norm.mean_gradient.copy_(torch.linspace(-1, 1, DIM))
        norm.set_num_updates(updates)
        norm.padding_mask = self.MASK
        return norm

    def scaled(self, x):
        """Return an input whose parts are divided by their own quadratic means."""
        parts = x.unflatten(-1, (HEADS, -1))
        return (parts / (parts.square().mean(-1, keepdim=True) + EPSILON).sqrt()).flatten(-2)

    def run(self, norm, x, grad_output):
        return outputs_and_gradients(norm, [norm.weight, norm.bias], x, grad_output)

    def test_after_the_warmup_both_passes_use_running_values(self):
        norm = self.make(power_norm_warmup=0)
        x, grad_output = tokens()
        psi, nu = (norm.mean_square + EPSILON).sqrt(), norm.mean_gradient.clone()
        is_token = ~self.MASK.unsqueeze(-1)
        output, grad_x, grad_weight, grad_bias = self.run(norm, x, grad_output)
        x_hat = self.scaled(x) / psi
        grad_x_hat = norm.weight * grad_output
        expected = x.clone().requires_grad_()
        self.scaled(expected).backward((grad_x_hat - is_token * nu * x_hat) / psi)
        assert_all_close(
            [output, grad_x, grad_weight, grad_bias],
            [
                norm.weight * x_hat + norm.bias,
                expected.grad,
                (grad_output * x_hat).sum((0, 1)),
                grad_output.sum((0, 1)),
            ],
        )
        before = norm.mean_square.clone()
        finish_update([norm])
        x, x_hat, grad_x_hat = (y[~self.MASK] for y in (self.scaled(x), x_hat, grad_x_hat))
        gamma, lam = x_hat.square().mean(0), (grad_x_hat * x_hat).mean(0)
        expected_nu = nu * (1 - 0.1 * gamma) + 0.1 * lam
        assert_all_close([norm.mean_square, norm.mean_gradient], [0.9 * before + 0.1 * x.square().mean(0), expected_nu])

    def test_in_the_warmup_the_gradient_is_that_of_the_batchs_own_mean(self):
        norm = self.make(power_norm_warmup=11)
        x, grad_output = tokens()
        grad_output[self.MASK] = 0

        def equation(x):
            x = self.scaled(x)
            psi = (x[~self.MASK].square().mean(0) + EPSILON).sqrt()
            return norm.weight * x / psi + norm.bias

        ours = self.run(norm, x, grad_output)
        theirs = outputs_and_gradients(equation, [norm.weight, norm.bias], x, grad_output)
        # Algorithm 2 has no epsilon in its mean of x_hat^2.
        assert_all_close(ours, theirs, 1e-4)

    def test_padding_has_no_influence_on_tokens(self):
        x, grad_output = tokens()
        grad_output[self.MASK] = 0
        other = x.clone()
        other[self.MASK] += 3
        for warmup in (0, 100):
            results = []
            for values in (x, other):
                norm = self.make(power_norm_warmup=warmup)
                output, grad_x, *_ = self.run(norm, values, grad_output)
                assert not grad_x[self.MASK].any()
                finish_update([norm])
                results.append((output[~self.MASK], grad_x[~self.MASK], norm.mean_square, norm.mean_gradient))
            assert_all_close(*results, tolerance=0)

    def test_the_batches_of_an_update_count_as_one(self):
        """With --update-freq 2 two halves give the numbers of the whole, once the warm-up is over."""
        x, grad_output = tokens()
        whole, parts = self.make(power_norm_warmup=0), self.make(power_norm_warmup=0)
        expected = self.run(whole, x, grad_output)
        results = []
        for columns in (slice(0, 1), slice(1, 4)):
            parts.set_num_updates(10)
            parts.padding_mask = self.MASK[:, columns]
            results.append(self.run(parts, x[:, columns], grad_output[:, columns]))
        (output, grad_x, *sums), (other_output, other_grad_x, *other_sums) = results
        joined = [torch.cat([output, other_output], 1), torch.cat([grad_x, other_grad_x], 1)]
        assert_all_close(expected, [*joined, *(a + b for a, b in zip(sums, other_sums, strict=True))])
        for norm in (whole, parts):
            finish_update([norm])
        assert_all_close(whole.buffers(), parts.buffers())

    def test_only_what_got_a_gradient_counts(self):
        """A batch that is repeated for an idle process has a loss of zero; a forward pass alone changes nothing."""
        x, grad_output = tokens()
        once, more = self.make(), self.make()
        self.run(once, x, grad_output)
        more(x)
        assert not any(gradient.any() for gradient in self.run(more, x + 1, 0 * grad_output)[1:])
        self.run(more, x, grad_output)
        self.run(more, x + 1, grad_output / 0)
        for norm in (once, more):
            finish_update([norm])
        assert_all_close(once.buffers(), more.buffers(), tolerance=0)
        self.run(more, x, 0 * grad_output)
        finish_update([more])
        assert_all_close(once.buffers(), more.buffers(), tolerance=0)

    def test_running_values_do_not_depend_on_the_loss_scale(self):
        x, grad_output = tokens()
        plain, scaled = self.make(power_norm_warmup=0), self.make(power_norm_warmup=0)
        scaled.loss_scale = 128
        gradients = self.run(plain, x, grad_output)[1:]
        scaled_gradients = self.run(scaled, x, 128 * grad_output)[1:]
        assert_all_close(gradients, [gradient / 128 for gradient in scaled_gradients])
        for norm in (plain, scaled):
            finish_update([norm])
        assert_all_close(plain.buffers(), scaled.buffers())

    def test_evaluation_uses_the_running_values(self):
        norm = self.make().eval()
        x, _ = tokens()
        expected = norm.weight * self.scaled(x) / (norm.mean_square + EPSILON).sqrt() + norm.bias
        assert_all_close([norm(x)], [expected])
        assert norm.sums is None

    def test_the_first_updates_count_alike(self):
        """After two updates of a fresh norm the running value is the mean of both, without the 1 that it began with."""
        norm = PowerNorm(DIM).double()
        expected = []
        for update, (x, grad_output) in enumerate((tokens(seed=0), tokens(seed=1))):
            norm.set_num_updates(update)
            self.run(norm, x, grad_output)
            finish_update([norm])
            x = x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt()
            expected.append(x.square().mean((0, 1)))
        assert_all_close([norm.mean_square], [(expected[0] + expected[1]) / 2])

    def test_half_precision_keeps_running_values_in_float32(self):
        norm = self.make().float()
        before = [buffer.clone() for buffer in norm.buffers()]
        for convert in (norm.half, norm.bfloat16):
            assert convert().weight.dtype != torch.float32
            assert_all_close(before, norm.buffers(), tolerance=0)
        x, grad_output = (y.bfloat16() for y in tokens())
        output, grad_x, grad_weight, _ = self.run(norm, x, grad_output)
        assert output.dtype == grad_x.dtype == grad_weight.dtype == torch.bfloat16

    def test_two_processes_have_the_statistics_of_one(self, tmp_path):
        """In the warm-up and after it outputs, gradients and running values are those of all tokens in one process."""
        x, grad_output = tokens()
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=self._half, args=(rank, x, grad_output, tmp_path)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=60)
        halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
        for warmup, *of_processes in zip((0, 100), *halves, strict=True):
            norm = self.make(power_norm_warmup=warmup)
            output, grad_x, grad_weight, grad_bias = self.run(norm, x, grad_output)
            finish_update([norm])
            (first, second), (buffers, other_buffers) = zip(*of_processes, strict=True)
            joined = [torch.cat(pair, dim=1) for pair in zip(first[:2], second[:2], strict=True)]
            added = [a + b for a, b in zip(first[2:], second[2:], strict=True)]
            assert_all_close([output, grad_x, grad_weight, grad_bias], [*joined, *added])
            assert_all_close(norm.buffers(), buffers)
            assert_all_close(buffers, other_buffers, tolerance=0)

    def _half(self, rank, x, grad_output, folder):
        rendezvous = f"file://{folder}/rendezvous"
        torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
        columns = slice(0, 1) if rank == 0 else slice(1, 4)
        results = []
        for warmup in (0, 100):
            norm = self.make(power_norm_warmup=warmup)
            norm.padding_mask = self.MASK[:, columns]
            result = self.run(norm, x[:, columns], grad_output[:, columns])
            finish_update([norm])
            results.append((result, list(norm.buffers())))
        torch.save(results, folder / f"{rank}.pt")
        torch.distributed.destroy_process_group()


def norms_of(module):
    """Return all norms within a module."""
    kinds = (nn.LayerNorm, *(norm for norm in NORMS.values()))
    return [norm for norm in module.modules() if isinstance(norm, kinds)]


WITH_NORMS = [scheme for scheme in SCHEMES if SCHEMES[scheme].has_norms]


@pytest.mark.parametrize(
    ("norm", "scheme"),
    [*(("rms_norm", scheme) for scheme in WITH_NORMS), *((norm, "dlcl") for norm in NOT_DEFAULT[1:])],
)
def test_all_norms_of_a_model_follow_the_flag(norm, scheme):
    """Those of layers, of the embedding, after the stack, and of the scheme; only their class changes."""
    layers = {"encoder_layers": 4, "decoder_layers": 4, "residual": scheme}
    layers["layernorm_embedding"] = not SCHEMES[scheme].norm_of_embedding
    plain, model = make_model(**layers), make_model(**layers, norm=norm)
    for stack in ("encoder", "decoder"):
        expected = type(NORMS[norm].build(DIM, HEADS)) if stack in NORMS[norm].stacks else nn.LayerNorm
        before, after = (norms_of(getattr(each, stack)) for each in (plain, model))
        assert len(before) == len(after) >= 9
        assert {type(module) for module in after} == {expected}
    names = [name for name, _ in plain.named_modules()]
    assert [name for name, _ in model.named_modules()] == names
    # Norms draw no random numbers, so all other parameters are initialized as before.
    initial = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            assert torch.equal(parameter, initial[name]), name


ONE_SET = {"layer_sharing": "sequence", "encoder_unique_layers": 1, "decoder_unique_layers": 1}


@pytest.mark.parametrize(("scheme", "sharing"), [("b2t", ONE_SET), ("dlcl", {})], ids=["b2t-shared", "dlcl"])
@pytest.mark.parametrize("norm", NOT_DEFAULT)
def test_every_norm_trains_saves_loads_and_decodes(tmp_path, norm, scheme, sharing):
    def build(seed):
        layers = {"encoder_layers": 2, "decoder_layers": 2}
        return make_model(norm=norm, residual=scheme, seed=seed, **layers, **sharing)

    check_training_and_decoding(build, make_batch(), tmp_path)


@pytest.mark.parametrize("norm", NOT_DEFAULT)
def test_language_and_speech_models_have_the_norms(norm):
    if "decoder" in NORMS[norm].stacks:
        assert {type(module) for module in norms_of(make_lm(norm=norm))} == {NORMS[norm]}
    speech = make_speech_model(norm=norm, residual="peri_ln", encoder_layers=2, decoder_layers=2)
    assert {type(module) for module in norms_of(speech.encoder)} == {NORMS[norm]}
    speech(**make_speech_batch()["net_input"])[0].sum().backward()


def test_layers_that_share_parameters_have_running_values_of_their_own():
    model = make_model(norm="power_norm", **CYCLE_REV)
    first, last = (layer.final_layer_norm for layer in (model.encoder.layers[0], model.encoder.layers[5]))
    assert first.weight is last.weight
    assert first.mean_square is not last.mean_square


@pytest.mark.parametrize("recompute", ["checkpoint_activations", "offload_activations"])
def test_recomputed_activations_leave_the_statistics_as_they_are(recompute):
    """A batch counts once, and its padding is known when it is computed for the second time."""
    results = []
    for flags in ({}, {recompute: True}):
        model = randomize(make_model(norm="power_norm", power_norm_warmup=0, **flags))
        model(**make_batch()["net_input"])[0].square().sum().backward()
        # What another batch leaves behind is not used.
        norms = [module for module in model.modules() if isinstance(module, PowerNorm)]
        finish_update(norms)
        results.append([*(p.grad for p in model.parameters()), *(b for norm in norms for b in norm.buffers())])
    for plain, recomputed in zip(*results, strict=True):
        assert torch.allclose(plain, recomputed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "flags", [{"residual": "b2t", "layernorm_embedding": True}, {"residual": "dlcl"}, {"residual": "sub_ln"}], ids=str
)
def test_a_model_with_power_norm_does_not_see_padding(flags):
    """More padding changes neither a sentence's logits in training nor the running values."""
    results = []
    for padding in (0, 3):
        layers = {"encoder_layers": 2, "decoder_layers": 2}
        model = randomize(make_model(norm="power_norm", **layers, **flags)).double()
        inputs = dict(make_batch()["net_input"])
        tokens = inputs["src_tokens"]
        inputs["src_tokens"] = torch.cat([tokens.new_ones(len(tokens), padding), tokens], dim=1)
        logits, _ = model(**inputs)
        logits.square().sum().backward()
        norms = [module for module in model.modules() if isinstance(module, PowerNorm)]
        finish_update(norms)
        results.append([logits.detach(), *(buffer for norm in norms for buffer in norm.buffers())])
    for plain, padded in zip(*results, strict=True):
        # Even in a float64 model, fairseq computes the softmax of attention in float32.
        assert torch.allclose(plain, padded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"norm": "layernorm"}, ["--norm layernorm", *NORMS]),
        ({"norm": "rms_norm", "residual": "rezero"}, ["--norm rms_norm", "--residual rezero"]),
        ({"norm": "power_norm", "encoder_layerdrop": 0.1}, ["--norm power_norm", "--encoder-layerdrop 0.1"]),
        ({"norm": "power_norm", "power_norm_warmup": -1}, ["--power-norm-warmup -1"]),
        ({"norm": "rms_norm", "power_norm_warmup": 9}, ["--power-norm-warmup 9", "--norm rms_norm", "power_norm"]),
        ({"norm": "scale_norm", "rms_norm_bias": True}, ["--rms-norm-bias", "--norm scale_norm", "rms_norm"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_a_norm_are_refused(flags, words):
    with pytest.raises(InputError) as error:
        make_model(**flags)
    assert all(word in str(error.value) for word in words), error.value


def test_power_norm_is_refused_where_there_is_no_encoder():
    with pytest.raises(InputError, match=r"--norm power_norm .* layer_norm, rms_norm"):
        make_lm(norm="power_norm")


def test_a_checkpoint_with_other_norms_is_refused():
    """The message names both; a checkpoint from before there was a choice has LayerNorms."""
    model, other = make_model(norm="rms_norm", rms_norm_bias=True), make_model()
    with pytest.raises(InputError, match=r"--norm rms_norm, but this model has --norm layer_norm"):
        other.load_state_dict(model.state_dict())
    state = other.state_dict()
    for stack in ("encoder", "decoder"):
        del state._metadata[stack]["norm"]
    with pytest.raises(InputError, match=r"--norm layer_norm, but this model has --norm rms_norm"):
        model.load_state_dict(state)
    other.load_state_dict(state)


def test_the_plan_says_which_norms_a_stack_has():
    plan = plan_translation(fill("b2t_transformer", {**SMALL, "norm": "power_norm", "power_norm_warmup": 7}))
    encoder, decoder = (stack.build_norm for stack in plan.stacks)
    assert (encoder.norm, encoder.heads, dict(encoder.settings)) == (PowerNorm, 4, {"power_norm_warmup": 7})
    assert decoder.norm is NORMS[DEFAULT]
    assert SimpleNamespace(**vars(plan.settings)).norm == "power_norm"

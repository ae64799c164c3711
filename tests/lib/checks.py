"""Checks that the tests of translation models, language models and speech models share."""

import math

import pytest
import torch
from exactly import assert_equal_in_float64, softmaxes_in_float64
from helpers import randomize, step_by_step_logits

from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.sharing import NO_SHARING, OF_THE_PAPER

# Which layers share does not depend on the scheme; test_what_is_shared.py has the other strategies.
PAIRS = [(scheme, strategy) for scheme in SCHEMES for strategy in (NO_SHARING, *OF_THE_PAPER)]
SOME_PAIRS = [(scheme, strategy) for scheme, strategy in PAIRS if strategy in ("none", "cycle_rev") or scheme == "b2t"]
"""Every scheme without and with shared layers, and every strategy, for what takes too long for all pairs."""
CYCLE_REV = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 3}


def sharing(strategy):
    """Return the settings that share layers of a model with 6 layers in each stack."""
    return {**CYCLE_REV, "layer_sharing": strategy} if strategy != "none" else {}


def check_training_and_decoding(build, batch, folder):
    """Check a small model's training, its saved parameters and its decoding.

    One step of the optimizer lowers the loss, another model that loads the saved parameters gives the same logits, and
    decoding one token at a time gives the logits of one pass. ``build`` takes a seed.
    """
    model = build(1)
    target = batch["target"]

    def loss():
        logits, _ = model(**batch["net_input"])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=1)

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = loss()
    before.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.step()
    assert loss() < before
    torch.save(model.state_dict(), folder / "model.pt")
    other = build(2).eval()
    other.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    model.eval()
    with torch.no_grad():
        assert torch.equal(other(**batch["net_input"])[0], model(**batch["net_input"])[0])
    other.double()
    # features of speech become float64 too
    inputs = {name: x.double() if x.is_floating_point() else x for name, x in batch["net_input"].items()}
    with softmaxes_in_float64(), torch.no_grad():
        full = other(**inputs)[0]
        steps = step_by_step_logits(other, {"net_input": inputs})
    assert_equal_in_float64(steps[target != 1], full[target != 1])


def deviation(parameter):
    """Return the standard deviation of a parameter's numbers."""
    return parameter.double().std(unbiased=False).item()


CARRY_VALUES = ("v_proj", "out_proj", "fc1", "fc2")


def linear_weights(stack):
    """Return the names and the weights of a stack's linear maps."""
    return [
        (name, weight) for name, weight in stack.named_parameters() if name.startswith("layers") and weight.dim() == 2
    ]


def assert_xavier(stack, gain, uniform):
    """Check that linear maps are initialized by Xavier's rule, with a gain where they carry values.

    The standard deviation is gain * sqrt(2 / (fan_in + fan_out)), for a normal and for a uniform distribution.
    """
    for name, weight in linear_weights(stack):
        if "omega" not in name:
            factor = gain if any(part in name for part in CARRY_VALUES) else 1.0
            xavier = factor * math.sqrt(2 / sum(weight.shape))
            assert deviation(weight) == pytest.approx(xavier, rel=0.02), name
            # A uniform distribution ends at sqrt(3) = 1.73205 standard deviations.
            assert (weight.abs().max() <= 1.7321 * xavier) == uniform, name


def randomized_pair(stock, ours):
    """Check that two models are initialized with the same numbers; return both, overwritten with random numbers."""
    assert list(stock.state_dict()) == list(ours.state_dict())
    for name, tensor in stock.state_dict().items():
        if "_float_tensor" not in name:
            assert torch.equal(tensor, ours.state_dict()[name]), f"{name} is initialized differently"
    return randomize(stock), randomize(ours)


def assert_same_results(stock, ours, batch, same_order=True):
    """Check that two models give the same bits in training, in evaluation and in decoding.

    Gradients are compared bit by bit only if both models add them up in the ``same_order``.
    """
    results = []
    for model in (stock, ours):
        model.train()
        torch.manual_seed(5)
        logits, _ = model(**batch["net_input"])
        logits.square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        model.eval()
        with torch.no_grad():
            full, extra = model(**batch["net_input"])
            steps = step_by_step_logits(model, batch)
            # An adaptive softmax is no part of the logits.
            log_probs = model.get_normalized_probs((full, extra), log_probs=True)
        results.append((logits, gradients, full, extra, steps, log_probs))
    (logits, gradients, full, extra, steps, log_probs), ours_results = results
    assert torch.equal(logits, ours_results[0])
    for name, gradient in gradients.items():
        other = ours_results[1][name]
        if gradient is None or other is None:
            assert gradient is other, name
        elif same_order:
            assert torch.equal(gradient, other), name
        else:
            # fairseq recomputes activations in nested backward passes, which add up shared gradients in another order.
            assert torch.allclose(gradient, other, rtol=1e-4, atol=1e-5), name
    assert torch.equal(full, ours_results[2])
    if extra["attn"][0] is not None:
        assert torch.equal(extra["attn"][0], ours_results[3]["attn"][0])
    for stock_state, state in zip(extra["inner_states"], ours_results[3]["inner_states"], strict=True):
        assert torch.equal(stock_state, state)
    assert torch.equal(steps, ours_results[4])
    assert torch.equal(log_probs, ours_results[5])


def logits_and_gradients(model, batch):
    """Return the logits of all words and the gradients by name, of a function of those logits."""
    torch.manual_seed(3)
    logits, _ = model(**batch["net_input"])
    # No loss reads the logits of padding.
    real = logits[batch["target"] != 1]
    real.logsumexp(dim=-1).square().sum().backward()
    return real.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_close(first, second):
    """Check that two results of :func:`logits_and_gradients` are equal to rounding."""
    (logits, gradients), (other_logits, other_gradients) = first, second
    assert torch.allclose(logits, other_logits, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == other_gradients.keys()
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (gradient - other_gradients[name]).abs().max() < 2e-6 * scale, name

"""The fused criterion gives fairseq's numbers: loss, gradients, what is logged, and whole runs."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions import label_smoothed_cross_entropy
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from helpers import make_batch, make_model
from operations import Operations
from training import SHARED, assert_same_model, losses, train

from b2t_common.errors import InputError
from b2t_fairseq.kernels import cross_entropy
from b2t_fairseq.kernels.cross_entropy import LabelSmoothedCrossEntropyCriterion, fused_label_smoothed_loss


def inputs_of_a_loss(dtype=torch.float32, tokens=37, vocabulary=29, width=8):
    """Return features (tokens, width), weights (vocabulary, width) and targets, every fifth of them padding."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(tokens, width, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).to(dtype).requires_grad_()
    target = torch.randint(0, vocabulary, (tokens,), generator=generator)
    target[::5] = 1
    return features, weight, target


def loss_by_fairseq(features, weight, target, epsilon):
    """Return the loss and the negative log-likelihood, both summed over the target tokens."""
    log_probs = torch.log_softmax((features @ weight.t()).float(), dim=-1)
    return label_smoothed_nll_loss(log_probs, target, epsilon, ignore_index=1)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_loss_and_gradients_are_fairseqs(monkeypatch, epsilon, at_once):
    monkeypatch.setattr(cross_entropy, "_LOGITS_AT_ONCE", {})
    monkeypatch.setattr(cross_entropy, "_LEAST_TOKENS", at_once)
    monkeypatch.setattr(cross_entropy, "_OTHERWISE", 1)
    features, weight, target = inputs_of_a_loss()
    expected, expected_nll = loss_by_fairseq(features, weight, target, epsilon)
    gradients = torch.autograd.grad(expected * 3, (features, weight))
    loss, nll, correct = fused_label_smoothed_loss(features, weight, target, epsilon, 1)
    assert torch.allclose(loss, expected)
    assert torch.allclose(nll, expected_nll)
    right = (features @ weight.t()).argmax(dim=1).eq(target) & target.ne(1)
    assert correct == right.sum()
    for ours, theirs in zip(torch.autograd.grad(loss * 3, (features, weight)), gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    loss, *_ = fused_label_smoothed_loss(features, weight, target, epsilon, 1)
    (gradient,) = torch.autograd.grad(loss, features)
    assert not gradient[::5].any(), "padding has a gradient"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_exact_as_fairseqs(dtype):
    """The gradients' distance from float32 is at most 1.2 times that of fairseq's."""
    inputs = inputs_of_a_loss(dtype)
    exact = torch.autograd.grad(loss_by_fairseq(*(t.float() for t in inputs[:2]), inputs[2], 0.1)[0], inputs[:2])
    theirs = torch.autograd.grad(loss_by_fairseq(*inputs, 0.1)[0], inputs[:2])
    ours = torch.autograd.grad(fused_label_smoothed_loss(*inputs, 0.1, 1)[0], inputs[:2])
    for reference, other, gradient in zip(exact, theirs, ours, strict=True):
        assert gradient.dtype == dtype
        errors = [(g.float() - reference.float()).norm() / reference.float().norm() for g in (other, gradient)]
        assert errors[1] < 1.2 * errors[0] + 1e-3


def bytes_of_a_logit(compute):
    """Return the bytes in memory that a loss in bfloat16 and its gradients read and write, divided by its logits."""
    features, weight, target = inputs_of_a_loss(torch.bfloat16, tokens=512, vocabulary=4096)
    with Operations("cpu") as counted:
        compute(features, weight, target).backward()
    return counted.bytes.total() / (len(target) * len(weight))


def test_a_logit_costs_few_bytes():
    """A logit is 2 bytes large. They are counted, as if each operation read each of its operands once."""
    ours = bytes_of_a_logit(lambda *inputs: fused_label_smoothed_loss(*inputs, 0.1, 1)[0])
    theirs = bytes_of_a_logit(lambda *inputs: loss_by_fairseq(*inputs, 0.1)[0])
    assert ours < 29
    assert ours < 0.6 * theirs


def test_validation_takes_no_gradient(monkeypatch):
    """It has one matrix product, where training has three."""
    products = []
    plain = cross_entropy.matmul
    monkeypatch.setattr(cross_entropy, "matmul", lambda *factors: products.append(factors) or plain(*factors))
    features, weight, target = inputs_of_a_loss()
    expected = fused_label_smoothed_loss(features, weight, target, 0.1, 1)[0]
    assert len(products) == 3
    with torch.no_grad():
        assert torch.equal(fused_label_smoothed_loss(features.detach(), weight, target, 0.1, 1)[0], expected)
    assert len(products) == 4


def test_features_or_weights_may_need_no_gradient():
    features, weight, target = inputs_of_a_loss()
    assert torch.isfinite(fused_label_smoothed_loss(features.detach(), weight.detach(), target, 0.1, 1)[0])
    full = torch.autograd.grad(fused_label_smoothed_loss(features, weight, target, 0.1, 1)[0], weight)[0]
    fused_label_smoothed_loss(features.detach(), weight, target, 0.1, 1)[0].backward()
    assert torch.equal(weight.grad, full)


@pytest.mark.parametrize("flags", [{}, {"ignore_prefix_size": 1}, {"report_accuracy": True}, {"sentence_avg": True}])
def test_criterion_logs_what_fairseq_logs(flags):
    model, batch = make_model(layer_sharing="cycle", encoder_unique_layers=2, decoder_unique_layers=2), make_batch()
    task = SimpleNamespace(target_dictionary=model.decoder.dictionary)
    settings = {"sentence_avg": False, "label_smoothing": 0.1, **flags}
    results = []
    stock = label_smoothed_cross_entropy.LabelSmoothedCrossEntropyCriterion
    for criterion in (stock, LabelSmoothedCrossEntropyCriterion):
        model.zero_grad()
        loss, sample_size, logged = criterion(task, **settings)(model, batch)
        loss.backward()
        results.append((sample_size, logged, [parameter.grad.clone() for parameter in model.parameters()]))
    (size, logged, gradients), (our_size, our_logged, our_gradients) = results
    assert size == our_size
    assert {key: float(value) for key, value in our_logged.items()} == pytest.approx(
        {key: float(value) for key, value in logged.items()}, rel=1e-5
    )
    for ours, theirs in zip(our_gradients, gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_run_is_fairseqs(data, tmp_path, caplog):
    """Training and validation losses and weights agree after twelve updates, and a run may change the criterion."""
    flags = [*SHARED, "--report-accuracy", "--max-update", "12"]
    caplog.set_level("INFO")
    states, training_losses = [], []
    for criterion in ("label_smoothed_cross_entropy", "label_smoothed_cross_entropy_fused"):
        caplog.clear()
        states.append(train(data, tmp_path / criterion, *flags, "--criterion", criterion))
        training_losses.append(losses(caplog.messages))
    assert len(training_losses[0]) == 12
    assert training_losses[1] == pytest.approx(training_losses[0], abs=2e-3)
    assert states[1]["extra_state"]["val_loss"] == pytest.approx(states[0]["extra_state"]["val_loss"], abs=1e-2)
    assert_same_model(*states, tolerance=0.02)
    flags[-1] = "14"
    changed = train(data, tmp_path / "label_smoothed_cross_entropy", *flags, "--criterion", criterion)
    assert changed["optimizer_history"][-1]["num_updates"] == 14


def test_an_output_layer_that_ddp_does_not_find_is_refused():
    """--find-unused-parameters takes an output layer for unused, unless it is shared with the embeddings."""
    for shared in (True, False):
        model = make_model(share_all_embeddings=shared)
        model.find_unused_parameters = True
        criterion = LabelSmoothedCrossEntropyCriterion(SimpleNamespace(target_dictionary=None), False, 0.1)
        criterion.padding_idx = 1
        if shared:
            assert torch.isfinite(criterion(model, make_batch())[0])
        else:
            with pytest.raises(InputError, match="--find-unused-parameters and an output layer of its own"):
                criterion(model, make_batch())


def test_an_adaptive_softmax_is_refused():
    model = make_model(adaptive_softmax_cutoff=[8, 16], share_all_embeddings=False)
    task = SimpleNamespace(target_dictionary=model.decoder.dictionary)
    with pytest.raises(InputError, match="needs a linear output layer without bias"):
        LabelSmoothedCrossEntropyCriterion(task, False, 0.1)(model, make_batch())

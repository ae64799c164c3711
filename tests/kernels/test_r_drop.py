"""R-Drop is its equation: loss and gradients, in the fused criterion and in fairseq's, in training only."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy_with_rdrop import RdropLabelSmoothedCrossEntropyCriterion
from helpers import make_batch, make_model
from training import MODEL_FLAGS, SHARED, TRAIN_FLAGS_BUT_CRITERION, assert_same_run, losses, train, whole_and_resumed

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.kernels.cross_entropy import LabelSmoothedCrossEntropyCriterion
from b2t_fairseq.kernels.r_drop import fused_r_drop_loss
from benchmarks.activation_memory import saved_bytes

ALPHA, EPSILON, PADDING = 5.0, 0.1, 1
FUSED = ["--criterion", "label_smoothed_cross_entropy_fused", "--label-smoothing", "0.1"]
FAIRSEQS = ["--criterion", "label_smoothed_cross_entropy_with_rdrop", "--label-smoothing", "0.1"]


def inputs_of_a_loss(dtype=torch.float32, tokens=23, vocabulary=29, width=8):
    """Return features of both passes (2 tokens, width), weights (vocabulary, width) and targets with padding."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2 * tokens, width, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).to(dtype).requires_grad_()
    target = torch.randint(4, vocabulary, (tokens,), generator=generator)
    target[::5] = PADDING
    return features, weight, target


def equation(features, weight, target, alpha=ALPHA, epsilon=EPSILON):
    """Return the paper's loss, in plain tensors, token by token; what is smoothed is as in fairseq."""
    first, second = torch.softmax((features @ weight.t()).float(), dim=1).split(len(target))
    total = 0.0
    for p1, p2, y in zip(first, second, target, strict=True):
        if y == PADDING:
            continue
        goal = torch.full_like(p1, epsilon / (len(p1) - 1))
        goal[y] = 1 - epsilon
        for p in (p1, p2):
            total = total - (goal * p.log()).sum()
        total = total + alpha / 2 * ((p1 * (p1 / p2).log()).sum() + (p2 * (p2 / p1).log()).sum())
    return total


@pytest.mark.parametrize("epsilon", [0.0, EPSILON])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_loss_and_gradients_are_those_of_the_equation(epsilon, rows):
    features, weight, target = inputs_of_a_loss()
    expected = equation(features, weight, target, epsilon=epsilon)
    gradients = torch.autograd.grad(expected * 3, (features, weight))
    sums = fused_r_drop_loss(features, weight, target, epsilon, PADDING, ALPHA, rows)
    assert torch.allclose(sums.loss, expected, rtol=1e-5)
    assert torch.allclose(sums.loss, 2 * sums.cross_entropy + ALPHA * sums.divergence)
    for ours, theirs in zip(torch.autograd.grad(sums.loss * 3, (features, weight)), gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_equal_passes_have_no_divergence():
    features, weight, target = inputs_of_a_loss()
    first = features.detach()[: len(target)]
    both = torch.cat([first, first]).requires_grad_()
    sums = fused_r_drop_loss(both, weight, target, EPSILON, PADDING, ALPHA, 7)
    assert sums.divergence == 0
    without = fused_r_drop_loss(both, weight, target, EPSILON, PADDING, 0.0, 7)
    for with_it, without_it in zip(
        *(torch.autograd.grad(s.loss, (both, weight)) for s in (sums, without)), strict=True
    ):
        assert torch.allclose(with_it, without_it, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_float32(dtype):
    features, weight, target = inputs_of_a_loss(dtype)
    exact = torch.autograd.grad(equation(features.float(), weight.float(), target), (features, weight))
    ours = torch.autograd.grad(
        fused_r_drop_loss(features, weight, target, EPSILON, PADDING, ALPHA, 7).loss, (features, weight)
    )
    for reference, gradient in zip(exact, ours, strict=True):
        assert gradient.dtype == dtype
        assert (gradient.float() - reference.float()).norm() < 0.02 * reference.float().norm()


def criteria(model, **settings):
    """Return the fused criterion with R-Drop and fairseq's, in training."""
    task = SimpleNamespace(target_dictionary=model.decoder.dictionary)
    common = {"sentence_avg": False, "label_smoothing": EPSILON, **settings}
    fused = LabelSmoothedCrossEntropyCriterion(task, **common, r_drop=ALPHA)
    return fused, RdropLabelSmoothedCrossEntropyCriterion(task, **common, rdrop_alpha=ALPHA)


@pytest.mark.parametrize("settings", [{}, {"report_accuracy": True}, {"sentence_avg": True}])
def test_the_fused_criterion_is_fairseqs(settings):
    """Loss, gradients and what is logged, with shared layers and the dropout of one seed."""
    model = make_model(layer_sharing="cycle", encoder_unique_layers=2, decoder_unique_layers=2, dropout=0.3).train()
    results = []
    for criterion in criteria(model, **settings):
        model.zero_grad()
        batch = make_batch()
        torch.manual_seed(3)
        loss, sample_size, logged = criterion(model, batch)
        loss.backward()
        assert len(batch["net_input"]["src_tokens"]) == 3, "the batch has changed"
        results.append((loss, sample_size, logged, [parameter.grad.clone() for parameter in model.parameters()]))
    (loss, size, logged, gradients), (their_loss, their_size, their_logged, their_gradients) = results
    assert size == their_size
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-5)
    assert {key: float(value) for key, value in logged.items()} == pytest.approx(
        {key: float(value) for key, value in their_logged.items()}, rel=1e-5
    )
    assert logged["rdrop_kl_loss"] > 0
    for ours, theirs in zip(gradients, their_gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_prefix_that_does_not_count_has_no_divergence():
    model = make_model(dropout=0.3).train()
    criterion, _ = criteria(model, ignore_prefix_size=2)
    batch = make_batch()
    loss, _, logged = criterion(model, batch)
    assert torch.isfinite(loss)
    assert logged["rdrop_kl_loss"] > 0


def test_validation_is_that_without_r_drop():
    model, batch = make_model(dropout=0.3).eval(), make_batch()
    plain = LabelSmoothedCrossEntropyCriterion(
        SimpleNamespace(target_dictionary=model.decoder.dictionary), False, EPSILON
    )
    for criterion in criteria(model):
        with torch.no_grad():
            expected, value = (each.eval()(model, batch) for each in (plain, criterion))
        assert value[0].item() == pytest.approx(expected[0].item(), rel=1e-6)
        assert value[2].keys() == expected[2].keys()
        assert float(value[2]["nll_loss"]) == pytest.approx(float(expected[2]["nll_loss"]), rel=1e-6)


def test_what_is_kept_is_twice_as_much_for_a_token():
    """As many bytes as for a batch of twice as many sentences without R-Drop; fairseq's criterion keeps more."""
    model = make_model(dropout=0.3).train()
    fused, fairseqs = criteria(model)
    plain = LabelSmoothedCrossEntropyCriterion(
        SimpleNamespace(target_dictionary=model.decoder.dictionary), False, EPSILON
    )
    batch = make_batch(padding=False)
    large = {**batch, "target": batch["target"].repeat(2, 1)}
    large["net_input"] = {name: torch.cat([x, x]) for name, x in batch["net_input"].items()}
    # what does not depend on the number of tokens is the gradient of the output layer
    assert saved_bytes(model, fused, batch) == pytest.approx(saved_bytes(model, plain, large), rel=0.02)
    assert saved_bytes(model, fairseqs, batch) > saved_bytes(model, fused, batch)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_makes_no_sense_is_refused(value):
    with pytest.raises(InputError, match=f"--r-drop {value}: give a positive number"):
        LabelSmoothedCrossEntropyCriterion(SimpleNamespace(target_dictionary=None), False, 0.1, r_drop=value)


class TestRuns:
    BASIS = (
        MODEL_FLAGS
        + TRAIN_FLAGS_BUT_CRITERION
        + ["--encoder-layers", "2", "--decoder-layers", "2", "--update-freq", "2"]
    )

    def test_a_run_is_that_of_fairseqs_criterion(self, data, tmp_path, caplog):
        """Training and validation agree; validation with BLEU works, since its batches are not doubled."""
        caplog.set_level("INFO")
        flags = ["--max-update", "3", "--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 3}']
        states, training = [], []
        for name, criterion in (("fused", [*FUSED, "--r-drop", "5"]), ("fairseq", [*FAIRSEQS, "--rdrop-alpha", "5"])):
            caplog.clear()
            states.append(train(data, tmp_path / name, *criterion, *flags, basis=self.BASIS))
            training.append(losses(caplog.messages))
            assert any('"rdrop_kl_loss"' in line for line in caplog.messages)
        assert training[0] == pytest.approx(training[1], abs=2e-3)
        assert states[0]["extra_state"]["val_loss"] == pytest.approx(states[1]["extra_state"]["val_loss"], abs=2e-3)

    @pytest.mark.slow
    def test_a_run_in_bfloat16_continues_bit_by_bit(self, data, tmp_path):
        flags = [*FUSED, "--r-drop", "2", *SHARED, "--bf16", "--max-update"]
        assert_same_run(*whole_and_resumed(data, tmp_path, *flags, command=b2t_train))

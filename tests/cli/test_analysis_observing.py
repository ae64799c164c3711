"""Observing a model does not change what it computes, and leaves no hook behind."""

import copy
from contextlib import nullcontext

import pytest
import torch
from analysis import KINDS, PADDING, PAIRS, loss_of, translation

from b2t_cli.analysis.observing import Observer
from b2t_fairseq.residual import SCHEMES


def assert_untouched(model):
    """Check that no module has hooks or a replaced function."""
    for module in model.modules():
        assert "connect" not in vars(module)
        assert not {**module._forward_hooks, **module._forward_pre_hooks, **module._backward_hooks}


@pytest.mark.parametrize(("kind", "scheme"), [*PAIRS[: len(SCHEMES)], ("language model", "b2t")])
def test_loss_and_gradients_stay_the_same(kind, scheme):
    results = []
    for observes in (False, True):
        model, batches = KINDS[kind](residual=scheme)
        observer = Observer(model.float())
        for batch in batches:
            with observer.observing(batch["target"].ne(PADDING)) if observes else nullcontext():
                loss = loss_of(model, batch)
                loss.backward()
        assert_untouched(model)
        results.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_observing_ends_with_its_context():
    model, batches = translation(residual="pre_ln")
    observer = Observer(model)
    with observer.observing(batches[0]["target"].ne(PADDING)):
        loss_of(model, batches[0]).backward()
    before = copy.deepcopy(observer.layers)
    assert before["decoder"][0].tokens == batches[0]["ntokens"]
    loss_of(model, batches[1]).backward()
    assert observer.layers == before


@pytest.mark.parametrize("part", ["src_tokens", "prev_output_tokens"])
def test_a_model_that_fails_keeps_no_hook(part):
    model, batches = translation(residual="post_ln")
    batches[0]["net_input"][part].fill_(1000)
    with pytest.raises(IndexError), Observer(model).observing(batches[0]["target"].ne(PADDING)):
        loss_of(model, batches[0])
    assert_untouched(model)

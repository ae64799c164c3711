"""Word dropout sets whole embeddings to zero, in training only, with the given probability."""

import pytest
import torch
from helpers import make_batch, make_model

from b2t_fairseq.word_dropout import WordDropout


def test_whole_embeddings_are_dropped_with_the_given_probability():
    torch.manual_seed(0)
    dropout = WordDropout(0.3)
    out = dropout(torch.ones(200, 50, 4))
    dropped = out.eq(0).all(-1)
    assert torch.equal(out[~dropped], torch.ones_like(out[~dropped]))  # those that are kept are not scaled up
    # The standard deviation of the mean of 10,000 draws is 0.0046.
    assert dropped.float().mean() == pytest.approx(0.3, abs=0.02)
    assert dropped[:, 0].float().mean() == pytest.approx(0.3, abs=0.12)


def test_first_position_is_kept_in_the_decoder():
    out = WordDropout(0.9, keep_first=True)(torch.ones(100, 5, 2))
    assert out[:, 0].eq(1).all()
    assert out[:, 1:].eq(0).any()


def test_positions_are_dropped_independently():
    torch.manual_seed(0)
    keep = WordDropout(0.5).draw_keep_mask(torch.ones(4000, 2, 1))
    assert torch.corrcoef(keep.T)[0, 1].abs() < 0.06


def test_evaluation_drops_nothing():
    """Neither does a probability of 0 in training."""
    x = torch.randn(3, 4, 5)
    assert WordDropout(0.9).eval()(x) is x
    assert WordDropout(0.0)(x) is x


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_dropped_word_keeps_its_position(stack, monkeypatch):
    """The first layer's input is then the embedding of the position alone."""
    model = make_model(**{f"{stack}_word_dropout": 0.5})
    side = getattr(model, stack)
    monkeypatch.setattr(side.word_dropout, "draw_keep_mask", lambda x: torch.zeros(x.shape[:2]))
    tokens = make_batch(padding=False)["net_input"]["src_tokens"]
    x = side.forward_embedding(tokens)
    x = x[0] if stack == "encoder" else x
    assert torch.allclose(x, side.embed_positions(tokens))


def test_output_in_evaluation_does_not_depend_on_the_probability():
    batch = make_batch()
    outputs = [
        make_model(encoder_word_dropout=p, decoder_word_dropout=p).eval()(**batch["net_input"])[0] for p in (0.0, 0.5)
    ]
    assert torch.equal(*outputs)

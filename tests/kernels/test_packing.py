"""In training on a CPU, products leave padding out: the loss, its gradients and the random numbers stay."""

import pytest
import torch
from checks import assert_close
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion as Stock
from helpers import make_batch, make_model, make_task, randomize
from language_models import make_lm, make_lm_batch

from b2t_fairseq.kernels import packing as kernels_packing
from b2t_fairseq.kernels.cross_entropy import LabelSmoothedCrossEntropyCriterion as Fused
from b2t_fairseq.kernels.packing import Packing, apply_packed, packing
from b2t_fairseq.residual import SCHEMES

FLAGS = [
    {"dropout": 0.3},
    {"dropout": 0.3, "activation_dropout": 0.2, "attention_dropout": 0.1},
    {"checkpoint_activations": True, "share_all_embeddings": False},
    {"decoder_word_dropout": 0.2, "activation_fn": "gelu"},
    {"no_cross_attention": True, "cross_self_attention": True},
    {"norm": "power_norm", "residual": "sub_ln"},
    {"quant_noise_pq": 0.5, "quant_noise_pq_block_size": 4},
]


@pytest.fixture
def packed(monkeypatch):
    """A list of the rows that each packed function was given."""
    rows = []
    pack = Packing.pack
    monkeypatch.setattr(Packing, "pack", lambda self, x: rows.append(len(self.tokens)) or pack(self, x))
    return rows


def loss_and_gradients(criterion, model, batch):
    """Return the loss in training and the gradients of all parameters by name."""
    torch.manual_seed(3)
    batch = {"ntokens": int(batch["target"].ne(1).sum()), **batch}
    loss, *_ = criterion(make_task(), False, 0.1)(model.train(), batch)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def both(build, batch, **flags):
    """Return what fairseq's criterion gives, for which padding is computed, and what this plugin's criterion gives."""
    return [loss_and_gradients(criterion, randomize(build(**flags)), batch) for criterion in (Stock, Fused)]


def test_a_function_of_tokens_has_zeros_and_no_gradient_at_padding():
    padding = torch.tensor([[False, False], [False, True], [True, True]])  # (seq_len, batch)
    x = torch.randn(3, 2, 4, requires_grad=True)
    weight = torch.randn(4, 5)
    output = apply_packed(lambda rows: rows @ weight, x, packing(padding.flatten()))
    expected = (x @ weight).masked_fill(padding.unsqueeze(-1), 0)
    assert torch.allclose(output, expected)
    gradients = [torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (output, expected)]
    assert torch.allclose(*gradients)
    assert not gradients[0][padding].any()


def test_little_padding_is_computed():
    assert packing(torch.zeros(100, dtype=torch.bool)) is None
    assert packing(torch.arange(100) < 3) is None
    assert packing(torch.arange(100) < 4).tokens.tolist() == list(range(4, 100))
    assert packing(torch.zeros(0, dtype=torch.bool)) is None
    assert len(packing(torch.ones(2, dtype=torch.bool)).tokens) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_loss_and_gradients_for_every_scheme(scheme, packed):
    assert_close(*both(make_model, make_batch(), residual=scheme))
    # Each of six layers packs two products of each of three sub-layers, and the feed-forward one once; the criterion
    # packs the features.
    assert packed == [18] * (6 * 5 + 1)


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: " ".join(flags))
def test_same_loss_gradients_and_random_numbers_with_flags(flags, onednn):
    assert_close(*both(make_model, make_batch(), **flags))


def test_a_language_model_gives_the_same(packed):
    assert_close(*both(make_lm, make_lm_batch(), dropout=0.3))
    assert packed == [18] * (6 * 3 + 1)


def test_what_may_be_read_is_computed(packed):
    """Only a criterion knows what it reads, and validation and other criteria get the features of all positions."""
    model, batch = randomize(make_model()).train(), {"ntokens": 18, **make_batch()}
    model(**batch["net_input"])
    Stock(make_task(), False, 0.1)(model, batch)
    assert not packed
    assert model.decoder.unread is None
    with torch.no_grad():
        Fused(make_task(), False, 0.1)(model.eval(), batch)
    assert packed == [18], "the criterion alone leaves out what it does not read"


def test_a_symbol_for_padding_amid_the_words_is_a_word(packed, monkeypatch):
    batch = make_batch()
    tokens, target = batch["net_input"]["prev_output_tokens"], batch["target"]
    # It is one position later in the decoder's input than in the target.
    tokens[0, 2] = target[0, 1] = 1
    without_padding = loss_and_gradients(Fused, randomize(make_model()), batch)
    assert sorted(set(packed)) == [17, 18]
    with monkeypatch.context() as patch:
        patch.setattr(kernels_packing, "_LEAST_PADDING", 2)
        assert_close(without_padding, loss_and_gradients(Fused, randomize(make_model()), batch))
    tokens[0, 3] = target[0, 2] = 1
    packed.clear()
    loss_and_gradients(Fused, randomize(make_model()), batch)
    assert packed == [16], "a later word may look at a position that is padding in both"


def test_gradients_can_be_had_once():
    model, batch = make_model(), {"ntokens": 18, **make_batch()}
    loss, *_ = Fused(make_task(), False, 0.1)(model, batch)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        loss.backward()

"""The flags of fairseq's beam search do what they say; test_search_kinds.py has those that make it another search.

Each test has the name of its flag.
"""

import pytest
import torch
from searching import (
    EOS,
    UNK,
    best,
    each,
    forced_log_probs,
    forced_scores,
    make_sentences,
    make_translator,
    one_of,
    search,
)

KERNELS = pytest.mark.parametrize("kernels", ["fast", "fairseq"])


def lengths(hypotheses):
    """Return the lengths of all hypotheses, the end of the sentence not counted."""
    return [len(hypothesis["tokens"]) - 1 for of_sentence in hypotheses for hypothesis in of_sentence]


@KERNELS
def test_beam(kernels):
    """A beam of one is greedy search; a wider one keeps as many hypotheses, sorted by their scores."""
    model, batch = make_translator(kernels=kernels), make_sentences()
    for place, hypothesis in each(search(model, batch, beam=1)):
        tokens = hypothesis["tokens"]
        log_probs = forced_log_probs(model, batch, place, tokens)
        log_probs[:, [0, 1]] = -torch.inf
        # The first symbol and the last possible one are not free.
        assert torch.equal(log_probs[1 : len(tokens) - 1].argmax(dim=1), tokens[1:-1])
    for of_sentence in search(model, batch, beam=5):
        scores = [hypothesis["score"].item() for hypothesis in of_sentence]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)


def test_nbest():
    """All hypotheses are there; the command prints the first of them (see the tests of the command)."""
    assert {len(of_sentence) for of_sentence in search(make_translator(), make_sentences(), beam=4, nbest=3)} == {4}


@KERNELS
def test_max_len_a(kernels):
    """The limit grows with the source, whose padding in its batch counts."""
    model, batch = make_translator(end=-9.0, kernels=kernels), make_sentences()
    limit = int(0.5 * batch["net_input"]["src_tokens"].size(1) + 1)
    assert max(lengths(search(model, batch, max_len_a=0.5, max_len_b=1))) == limit


@KERNELS
def test_max_len_b(kernels):
    """Every hypothesis ends after so many symbols at the latest."""
    model = make_translator(end=-9.0, kernels=kernels)
    assert max(lengths(search(model, make_sentences(), max_len_b=5))) == 5


@KERNELS
def test_min_len(kernels):
    """No hypothesis ends before so many symbols."""
    model, batch = make_translator(kernels=kernels), make_sentences()
    assert min(lengths(search(model, batch))) < 6
    assert min(lengths(search(model, batch, min_len=6))) == 6


@KERNELS
def test_match_source_len(kernels):
    """Every translation has as many symbols as its source, whatever else is in the batch."""
    batch = make_sentences()
    sources = (batch["net_input"]["src_tokens"].ne(1) & batch["net_input"]["src_tokens"].ne(EOS)).sum(dim=1).tolist()
    hypotheses = search(make_translator(kernels=kernels), batch, match_source_len=True)
    assert [len(tokens) - 1 for tokens in best(hypotheses)] == sources


@KERNELS
def test_unnormalized(kernels):
    """A score is the sum of the log-probabilities of the symbols, those of teacher forcing."""
    model, batch = make_translator(kernels=kernels), make_sentences()
    for place, hypothesis in each(search(model, batch, unnormalized=True)):
        expected = forced_scores(model, batch, place, hypothesis["tokens"])
        assert torch.allclose(hypothesis["positional_scores"], expected, atol=1e-4)
        assert torch.allclose(hypothesis["score"], expected.sum(), atol=1e-3)


@KERNELS
def test_lenpen(kernels):
    """A score is that sum divided by the length to the power of the penalty; a larger one makes translations longer."""
    model, batch = make_translator(end=1.0, kernels=kernels), make_sentences()
    mean_lengths = []
    for lenpen in (0.2, 1.0, 2.0):
        hypotheses = search(model, batch, lenpen=lenpen)
        for place, hypothesis in each(hypotheses):
            expected = forced_scores(model, batch, place, hypothesis["tokens"]).sum()
            expected = expected / len(hypothesis["tokens"]) ** lenpen
            assert torch.allclose(hypothesis["score"], expected, atol=1e-4)
        mean_lengths.append(sum(map(len, best(hypotheses))))
    assert mean_lengths[0] < mean_lengths[1] <= mean_lengths[2]
    assert mean_lengths[0] < mean_lengths[2]


@KERNELS
def test_unkpen(kernels):
    """A penalty makes unknown words rare, a negative one frequent."""
    model, batch = make_translator(kernels=kernels), make_sentences()
    count = {
        penalty: sum(hypothesis["tokens"].eq(UNK).sum().item() for _, hypothesis in each(search(model, batch, **flags)))
        for penalty, flags in ((None, {}), (50, {"unkpen": 50.0}), (-50, {"unkpen": -50.0}))
    }
    assert count[50] == 0
    assert count[-50] > (count[None] or 0)


@KERNELS
def test_temperature(kernels):
    """Scores are log-probabilities of the logits divided by the temperature."""
    model, batch = make_translator(kernels=kernels), make_sentences()
    for place, hypothesis in each(search(model, batch, temperature=2.5)):
        expected = forced_scores(model, batch, place, hypothesis["tokens"], temperature=2.5)
        assert torch.allclose(hypothesis["positional_scores"], expected, atol=1e-4)


@KERNELS
def test_prefix_size(kernels):
    """Every hypothesis begins with the first symbols of the reference."""
    batch = make_sentences()
    for place, hypothesis in each(search(make_translator(kernels=kernels), batch, prefix_size=2)):
        reference = batch["target"][place, :2]
        assert torch.equal(hypothesis["tokens"][:2], reference)


@KERNELS
def test_no_repeat_ngram_size(kernels):
    """No n symbols stand twice in a hypothesis."""

    def repeats(size, hypotheses):
        total = 0
        for _, hypothesis in each(hypotheses):
            tokens = hypothesis["tokens"].tolist()
            ngrams = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
            total += len(ngrams) - len(set(ngrams))
        return total

    model, batch = make_translator(kernels=kernels), make_sentences()
    for size in (1, 2, 3):
        assert repeats(size, search(model, batch, max_len_b=30, min_len=25)) > 0
        assert repeats(size, search(model, batch, max_len_b=30, min_len=25, no_repeat_ngram_size=size)) == 0


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_print_alignment(kind):
    """The alignment is the attention of a pass with teacher forcing."""
    model, batch = make_translator(), make_sentences()
    for place, of_sentence in enumerate(search(model, batch, print_alignment=kind)):
        source = one_of(batch, place)["net_input"]["src_tokens"]
        for hypothesis in of_sentence:
            tokens = hypothesis["tokens"]
            previous = torch.cat((torch.tensor([EOS]), tokens[:-1])).unsqueeze(0)
            with torch.no_grad():
                encoder_out = model.encoder(source)
                _, extra = model.decoder(previous, encoder_out)
            attention = extra["attn"][0][0][: len(tokens) - 1, :-1]
            if kind == "hard":
                expected = [(source, place) for place, source in enumerate(attention.argmax(dim=1).tolist())]
                assert hypothesis["alignment"] == expected
            else:
                weights = torch.tensor([[float(weight) for weight in row] for row in hypothesis["alignment"]])
                # The alignment has weights for the ends of both sentences too.
                assert torch.allclose(weights[:-1, :-1], attention, atol=1e-3)


def test_score_reference():
    """The scores are those of the reference with teacher forcing."""
    model, batch = make_translator(), make_sentences()
    for place, of_sentence in enumerate(search(model, batch, score_reference=True)):
        target = batch["target"][place]
        target = target[target.ne(1)]
        expected = forced_scores(model, batch, place, target)
        assert torch.allclose(of_sentence[0]["positional_scores"], expected, atol=1e-4)

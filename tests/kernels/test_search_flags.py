"""Every flag of fairseq's search does what it says, or is refused (test_search_refusals.py).

Each test has the name of its flag.
"""

import dataclasses
from argparse import Namespace

import pytest
import torch
from fairseq.dataclass.configs import GenerationConfig
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq.token_generation_constraints import pack_constraints
from helpers import make_dictionary, make_task, randomize
from language_models import make_lm
from searching import (
    EOS,
    UNK,
    WORDS,
    best,
    forced_log_probs,
    forced_scores,
    make_sentences,
    make_translator,
    one_of,
    search,
)

from b2t_fairseq.decoding.search_settings import REFUSED

KERNELS = pytest.mark.parametrize("kernels", ["fast", "fairseq"])
FIELDS = {field.name: field.default for field in dataclasses.fields(GenerationConfig) if field.name != "_name"}
SHOWN_BY_TESTS_OF_THE_COMMAND = {"no_seed_provided", "lm_path"}
REFUSED_BUT_FOR_SPEECH = {"eos_token"}


def lengths(hypotheses):
    """Return the lengths of all hypotheses, the end of the sentence not counted."""
    return [len(hypothesis["tokens"]) - 1 for of_sentence in hypotheses for hypothesis in of_sentence]


def each(hypotheses):
    """Yield the place of the sentence in the batch and a hypothesis."""
    for place, of_sentence in enumerate(hypotheses):
        for hypothesis in of_sentence:
            yield place, hypothesis


def test_every_flag_is_tested_or_refused():
    """A flag that a newer fairseq adds makes this test fail."""
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    known = tested | REFUSED.keys() | SHOWN_BY_TESTS_OF_THE_COMMAND | REFUSED_BUT_FOR_SPEECH
    assert not FIELDS.keys() - known, "neither tested nor refused"


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


@KERNELS
def test_sampling(kernels):
    """What is drawn depends on the seed alone, and its scores are those of the model."""
    model, batch = make_translator(kernels=kernels), make_sentences()
    settings = {"sampling": True, "nbest": 4}
    drawn = {seed: search(model, batch, seed=seed, **settings) for seed in (1, 2)}
    assert best(drawn[1]) != best(drawn[2])
    assert best(drawn[1]) == best(search(model, batch, seed=1, **settings))
    for place, hypothesis in each(drawn[1]):
        tokens = hypothesis["tokens"]
        # At the first position the end of the sentence is excluded.
        expected = forced_scores(model, batch, place, tokens)
        assert torch.allclose(hypothesis["positional_scores"][1:-1], expected[1:-1], atol=1e-3)


def test_sampling_topk():
    """Each symbol is one of the most likely ones; the most likely one alone is greedy search."""
    model, batch = make_translator(), make_sentences()
    for place, hypothesis in each(search(model, batch, sampling=True, nbest=4, sampling_topk=3)):
        tokens = hypothesis["tokens"]
        log_probs = forced_log_probs(model, batch, place, tokens)
        log_probs[:, [0, 1]] = -torch.inf
        top = log_probs.topk(4, dim=1).indices
        assert top[: len(tokens) - 1].eq(tokens[:-1].unsqueeze(1)).any(dim=1).all()
    greedy = search(model, batch, beam=1)
    assert best(search(model, batch, beam=1, nbest=1, sampling=True, sampling_topk=1)) == best(greedy)


def test_sampling_topp():
    """Each symbol is in the smallest set whose probability exceeds p."""
    model, batch = make_translator(), make_sentences()
    for place, hypothesis in each(search(model, batch, sampling=True, nbest=4, sampling_topp=0.3)):
        tokens = hypothesis["tokens"][1:-1]
        probabilities = forced_log_probs(model, batch, place, hypothesis["tokens"])[1:-1].exp()
        chosen = probabilities.gather(1, tokens.unsqueeze(1))
        above = (probabilities * probabilities.gt(chosen)).sum(dim=1)
        assert (above < 0.3 + 1e-4).all()
    greedy = search(model, batch, beam=1)
    assert best(search(model, batch, beam=1, nbest=1, sampling=True, sampling_topp=1e-4)) == best(greedy)


@KERNELS
def test_diverse_beam_groups(kernels):
    """A sentence has the same translations alone and in any batch; one group is plain beam search."""
    model, batch = make_translator(kernels=kernels), make_sentences(first_id=1000)
    together = search(model, batch, diverse_beam_groups=2)
    for place in range(len(together)):
        (alone,) = search(model, one_of(batch, place), diverse_beam_groups=2)
        tokens = [hypothesis["tokens"].tolist() for hypothesis in together[place]]
        assert tokens == [hypothesis["tokens"].tolist() for hypothesis in alone]


def test_diverse_beam_strength():
    """A strong penalty makes the groups begin with different symbols; a tiny one does not."""
    model, batch = make_translator(), make_sentences()

    def different(strength):
        hypotheses = search(model, batch, beam=4, diverse_beam_groups=4, diverse_beam_strength=strength)
        return sum(len({hypothesis["tokens"][0].item() for hypothesis in of_sentence}) for of_sentence in hypotheses)

    assert different(100.0) == 4 * len(batch["id"])
    assert different(1e-6) < different(100.0)


def test_diversity_rate():
    """No penalty is beam search; a large one keeps the best continuation of each hypothesis, and no second one."""
    model, batch = make_translator(), make_sentences()
    plain = search(model, batch)
    assert best(search(model, batch, diversity_rate=0.0)) == best(plain)
    first = [
        len({hypothesis["tokens"][0].item() for hypothesis in of_sentence})
        for of_sentence in search(model, batch, diversity_rate=1000.0, min_len=5)
    ]
    assert first == [4] * len(first)


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


def test_lm_weight():
    """Scores are those of the model plus the weighted ones of the language model."""
    model, batch = make_translator(), make_sentences()
    language_model = randomize(make_lm(task=make_task(WORDS)), 5).eval()
    settings = {"lm_path": "lm.pt", "lm_weight": 0.3}
    hypotheses = search(model, batch, extra={"lm_model": language_model, "lm_weight": 0.3}, **settings)
    for place, hypothesis in each(hypotheses):
        tokens = hypothesis["tokens"]
        previous = torch.cat((torch.tensor([EOS]), tokens[:-1])).unsqueeze(0)
        with torch.no_grad():
            logits, _ = language_model(previous)
        of_lm = torch.log_softmax(logits[0], dim=-1).gather(1, tokens.unsqueeze(1)).squeeze(1)
        expected = forced_scores(model, batch, place, tokens) + 0.3 * of_lm
        assert torch.allclose(hypothesis["positional_scores"], expected, atol=1e-3)


def test_score_reference():
    """The scores are those of the reference with teacher forcing."""
    model, batch = make_translator(), make_sentences()
    for place, of_sentence in enumerate(search(model, batch, score_reference=True)):
        target = batch["target"][place]
        target = target[target.ne(1)]
        expected = forced_scores(model, batch, place, target)
        assert torch.allclose(of_sentence[0]["positional_scores"], expected, atol=1e-4)


def test_retain_dropout(tmp_path):
    """With dropout in decoding translations depend on the seed."""
    model, batch = make_translator(dropout=0.3), make_sentences()
    settings = {"retain_dropout": True}
    model.prepare_for_inference_(namespace(settings))
    assert best(search(model, batch, seed=1, **settings)) != best(search(model, batch, seed=2, **settings))
    model = make_translator(dropout=0.3)
    model.prepare_for_inference_(namespace({}))
    assert best(search(model, batch, seed=1)) == best(search(model, batch, seed=2))


def test_retain_dropout_modules():
    """Dropout stays in the modules that are named, and nowhere else."""
    model = make_translator(dropout=0.3)
    model.prepare_for_inference_(namespace({"retain_dropout": True, "retain_dropout_modules": ["TransformerEncoder"]}))
    dropouts = {name: module for name, module in model.named_modules() if hasattr(module, "apply_during_inference")}
    kept = [name for name, module in dropouts.items() if module.apply_during_inference]
    assert kept == ["encoder.dropout_module"]


def namespace(settings):
    """Return what ``prepare_for_inference_`` reads of fairseq's settings."""
    defaults = {"retain_dropout": False, "retain_dropout_modules": None, "no_beamable_mm": False, "beam": 4}
    return Namespace(generation=Namespace(**{**defaults, **settings}))


@pytest.mark.parametrize("representation", ["ordered", "unordered"])
def test_constraints(representation):
    """Every hypothesis has the symbols that it must have, in their order if that is asked for."""
    model, batch = make_translator(), make_sentences()
    wanted = [[torch.tensor([7 + n]), torch.tensor([20 - n])] for n in range(len(batch["id"]))]
    dictionary = make_dictionary(WORDS)
    task = TranslationTask(TranslationConfig(), dictionary, dictionary)
    generator = task.build_generator([model], Namespace(beam=4, max_len_b=12, constraints=representation))
    hypotheses = task.inference_step(generator, [model], batch, constraints=pack_constraints(wanted))
    for symbols, of_sentence in zip(wanted, hypotheses, strict=True):
        tokens = of_sentence[0]["tokens"].tolist()
        places = [tokens.index(symbol.item()) for symbol in symbols]
        assert representation == "unordered" or places == sorted(places)

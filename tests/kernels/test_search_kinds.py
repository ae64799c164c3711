"""Sampling, diverse search and whatever else changes the search do what their flags say.

Each test has the name of its flag.
"""

from argparse import Namespace

import pytest
import torch
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq.token_generation_constraints import pack_constraints
from helpers import make_dictionary, make_task, randomize
from language_models import make_lm
from searching import (
    EOS,
    WORDS,
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

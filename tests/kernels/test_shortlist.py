"""Lexical shortlists: translations consist of candidates, with the probabilities that the model has among them."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from fairseq import utils
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq.token_generation_constraints import pack_constraints
from helpers import make_dictionary, make_task, randomize
from language_models import make_lm
from searching import WORDS, best, each, forced_log_probs, make_sentences, make_translator, one_of, search
from speech import make_speech_model, make_speech_task
from torch import nn

from b2t_common.errors import InputError
from b2t_fairseq.decoding import BeamSearchGenerator, shortlist
from b2t_fairseq.decoding.shortlist import Shortlist
from b2t_fairseq.dictionaries import checksum
from b2t_fairseq.kernels import quantized
from b2t_fairseq.kernels.quantized import quantize

KERNELS = pytest.mark.parametrize("kernels", ["fast", "fairseq"])
FREQUENT = [4, 5, 6]
NUM_SYMBOLS = WORDS + 4
SPECIAL = {0, 1, 2, 3}


def translator(seed=0, **flags):
    """Return a random model of few layers, because these tests are about its output."""
    return make_translator(seed, encoder_layers=1, decoder_layers=2, **flags)


def make_shortlist(best_number=2, frequent=FREQUENT, **overrides):
    """Return random candidates; the dictionaries of source and target are not the same one."""
    table = torch.randint(4, NUM_SYMBOLS, (NUM_SYMBOLS, best_number), generator=torch.Generator().manual_seed(5))
    own = checksum(make_dictionary(WORDS))
    return Shortlist(**{"source": own, "target": own, "best": table, "frequent": torch.tensor(frequent), **overrides})


@pytest.fixture
def written(tmp_path):
    """The file of the random candidates."""
    make_shortlist().write(tmp_path / "shortlist.npz")
    return str(tmp_path / "shortlist.npz")


def candidates_of(batch, place, more=()):
    """Return the candidates of a sentence, from their definition."""
    source = one_of(batch, place)["net_input"]["src_tokens"][0].tolist()
    table = make_shortlist().best
    found = {symbol for word in source for symbol in table[word].tolist()}
    return found | set(source) | set(FREQUENT) | SPECIAL | set(more)


def assert_scores(model, batch, hypotheses, more=None, temperature=1.0, atol=1e-4, with_end=True):
    """Assert that symbols are candidates and have the probability that the model gives them among the candidates."""
    for place, hypothesis in each(hypotheses):
        tokens = hypothesis["tokens"]
        allowed = candidates_of(batch, place, () if more is None else more[place])
        assert set(tokens.tolist()) <= allowed
        log_probs = forced_log_probs(model, batch, place, tokens, temperature)
        places = sorted(allowed)
        among = torch.full_like(log_probs, -torch.inf)
        among[:, places] = log_probs[:, places].log_softmax(dim=1)
        expected = among.gather(1, tokens.unsqueeze(1)).squeeze(1)
        kept = slice(None) if with_end else slice(1, -1)
        assert torch.allclose(hypothesis["positional_scores"][kept], expected[kept], atol=atol)


class TestSearch:
    @KERNELS
    def test_scores_are_those_of_the_model_among_the_candidates(self, written, kernels):
        model, batch = translator(kernels=kernels), make_sentences()
        hypotheses = search(model, batch, shortlist=written, nbest=4)
        assert best(hypotheses) != best(search(model, batch))
        assert_scores(model, batch, hypotheses)

    def test_both_searches_find_the_same(self, written):
        batch, found = make_sentences(), []
        for kernels in ("fast", "fairseq"):
            found.append(search(translator(kernels=kernels), batch, shortlist=written, temperature=1.3, unkpen=0.5))
        for (_, ours), (_, theirs) in zip(each(found[0]), each(found[1]), strict=True):
            assert torch.equal(ours["tokens"], theirs["tokens"])
            assert torch.allclose(ours["positional_scores"], theirs["positional_scores"], atol=1e-4)

    @KERNELS
    def test_all_symbols_as_candidates_change_nothing(self, tmp_path, kernels):
        make_shortlist(frequent=list(range(NUM_SYMBOLS))).write(tmp_path / "all.npz")
        model, batch = translator(kernels=kernels), make_sentences()
        for settings in ({}, {"sampling": True, "nbest": 4}):
            limited = search(model, batch, shortlist=str(tmp_path / "all.npz"), **settings)
            for (_, ours), (_, theirs) in zip(each(limited), each(search(model, batch, **settings)), strict=True):
                assert torch.equal(ours["tokens"], theirs["tokens"])
                assert torch.allclose(ours["positional_scores"], theirs["positional_scores"], atol=1e-5)

    @KERNELS
    def test_a_sentence_is_translated_as_if_it_were_alone(self, written, kernels):
        model, batch = translator(kernels=kernels), make_sentences()
        together = search(model, batch, shortlist=written)
        for place, hypotheses in enumerate(together):
            alone = search(model, one_of(batch, place), shortlist=written, max_len_b=12)[0]
            for ours, theirs in zip(hypotheses, alone, strict=True):
                assert torch.equal(ours["tokens"], theirs["tokens"])
                assert torch.allclose(ours["positional_scores"], theirs["positional_scores"], atol=1e-4)

    @KERNELS
    def test_the_model_is_as_before(self, written, kernels):
        model, batch = translator(kernels=kernels), make_sentences()
        projection, before = model.decoder.output_projection, search(model, batch)
        search(model, batch, shortlist=written, prefix_size=1)
        assert model.decoder.output_projection is projection
        for (_, ours), (_, theirs) in zip(each(search(model, batch)), each(before), strict=True):
            assert torch.equal(ours["positional_scores"], theirs["positional_scores"])

    def test_few_candidates_are_searched_by_fairseqs_search(self, written):
        """Ours needs more symbols than there are hypotheses."""
        model, batch = translator(), one_of(make_sentences(), 0)
        assert_scores(model, batch, search(model, batch, shortlist=written, beam=8, nbest=8))

    def test_symbols_of_prefixes_are_candidates(self, written):
        model, batch = translator(), make_sentences()
        hypotheses = search(model, batch, shortlist=written, prefix_size=3)
        prefixes = [row[row.ne(1)].tolist() for row in batch["target"][:, :3]]
        for place, hypothesis in each(hypotheses):
            assert hypothesis["tokens"].tolist()[: len(prefixes[place])] == prefixes[place]
        assert_scores(model, batch, hypotheses, more=prefixes)

    @pytest.mark.parametrize("representation", ["ordered", "unordered"])
    def test_symbols_of_constraints_are_candidates(self, written, representation):
        model, batch = translator(), make_sentences(count=3)
        phrases = [[[30, 31]], [[32], [33, 34]], []]
        wanted = pack_constraints([[torch.tensor(phrase) for phrase in row] for row in phrases])
        dictionary = make_dictionary(WORDS)
        task = TranslationTask(TranslationConfig(), dictionary, dictionary)
        args = Namespace(beam=4, max_len_b=12, constraints=representation, shortlist=written)
        generator = task.build_generator([model], args)
        hypotheses = task.inference_step(generator, [model], batch, constraints=wanted)
        more = [[symbol for phrase in row for symbol in phrase] for row in phrases]
        for place, symbols in enumerate(more):
            assert set(symbols) <= set(hypotheses[place][0]["tokens"].tolist())
        assert_scores(model, batch, [of_sentence[:1] for of_sentence in hypotheses], more=more)

    @pytest.mark.parametrize(
        "settings",
        [
            {"sampling": True},
            {"sampling": True, "sampling_topk": 3},
            {"sampling": True, "sampling_topp": 0.7},
            {"no_repeat_ngram_size": 1},
            {"match_source_len": True},
        ],
        ids=lambda settings: list(settings)[-1],
    )
    def test_other_searches_score_candidates_only(self, written, settings):
        model, batch = translator(), make_sentences()
        hypotheses = search(model, batch, shortlist=written, nbest=4, **settings)
        assert_scores(model, batch, hypotheses, with_end=False, atol=1e-3)

    @pytest.mark.parametrize("settings", [{"diverse_beam_groups": 2}, {"diversity_rate": 0.5}], ids=str)
    def test_diverse_searches_find_candidates_only(self, written, settings):
        """Their scores are lowered by how similar hypotheses are."""
        model, batch = translator(), make_sentences()
        for place, hypothesis in each(search(model, batch, shortlist=written, **settings)):
            assert set(hypothesis["tokens"].tolist()) <= candidates_of(batch, place)
            assert hypothesis["score"].isfinite()

    def test_several_models_have_the_mean_of_their_probabilities_among_the_candidates(self, written):
        models, batch = [translator(seed) for seed in (0, 1)], one_of(make_sentences(), 1)
        dictionary = make_dictionary(WORDS)
        task = TranslationTask(TranslationConfig(), dictionary, dictionary)
        generator = task.build_generator(models, Namespace(beam=4, max_len_b=12, shortlist=written))
        utils.set_torch_seed(1)
        tokens = task.inference_step(generator, models, batch)[0][0]
        places = sorted(candidates_of(batch, 0))
        log_probs = []
        for model in models:
            forced = forced_log_probs(model, batch, 0, tokens["tokens"])
            log_probs.append(forced[:, places].log_softmax(dim=1))
        mean = torch.stack(log_probs).exp().mean(dim=0).log()
        chosen = torch.tensor([places.index(symbol) for symbol in tokens["tokens"].tolist()])
        assert torch.allclose(tokens["positional_scores"], mean.gather(1, chosen.unsqueeze(1)).squeeze(1), atol=1e-4)

    def test_a_language_model_is_added(self, written):
        model, batch = translator(), make_sentences()
        extra = {"lm_model": randomize(make_lm(task=make_task(WORDS)), 5).eval(), "lm_weight": 0.5}
        hypotheses = search(model, batch, shortlist=written, extra=extra)
        assert best(hypotheses) != best(search(model, batch, shortlist=written))
        for place, hypothesis in each(hypotheses):
            assert set(hypothesis["tokens"].tolist()) <= candidates_of(batch, place)


@pytest.mark.skipif(quantized.engine_name() is None, reason="this PyTorch has no 8-bit products")
class TestInt8:
    @pytest.mark.parametrize("bias", [True, False])
    def test_rows_of_a_product_are_the_same_numbers(self, bias):
        parent = nn.Sequential(randomize(nn.Linear(48, 33, bias=bias)))
        quantize(parent)
        places, x = torch.tensor([2, 3, 20, 32]), torch.randn(7, 48, generator=torch.Generator().manual_seed(1))
        assert torch.equal(parent[0].rows(places)(x), parent[0](x)[:, places])

    @KERNELS
    def test_scores_are_close_to_those_of_float32(self, written, kernels):
        model, batch = translator(kernels=kernels), make_sentences()
        hypotheses = search(translator(kernels=kernels), batch, shortlist=written, int8=True)
        assert_scores(model, batch, hypotheses, atol=0.5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"score_reference": True}, "does not work with --score-reference: a reference may have symbols"),
            ({"print_alignment": "hard"}, "does not work with --print-alignment"),
        ],
    )
    def test_settings_that_cannot_use_it_are_refused(self, written, settings, message):
        with pytest.raises(InputError, match=message):
            search(translator(), make_sentences(), shortlist=written, **settings)

    def test_symbols_that_a_function_allows(self, written):
        dictionary = make_dictionary(WORDS)
        task = TranslationTask(TranslationConfig(), dictionary, dictionary)
        with pytest.raises(InputError, match="prefix_allowed_tokens_fn"):
            task.build_generator([translator()], Namespace(shortlist=written), prefix_allowed_tokens_fn=max)

    def test_models_without_source_text(self, written):
        speech = make_speech_task(WORDS)
        for model in (make_lm(), make_speech_model(task=speech)):
            with pytest.raises(InputError, match="has no source text"):
                search(model, make_sentences(), shortlist=written)

    def test_an_adaptive_softmax_is_refused(self, written):
        model = translator()
        model.decoder.adaptive_softmax = nn.Identity()
        with pytest.raises(InputError, match="adaptive softmax"):
            search(model, make_sentences(), shortlist=written)

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_another_dictionary_is_refused(self, tmp_path, side):
        path = tmp_path / "other.npz"
        make_shortlist(**{side: "0123456789abcdef"}).write(path)
        own = checksum(make_dictionary(WORDS))
        message = f"other.npz was made for the {side} dictionary with checksum 0123456789abcdef, but .* model is {own}"
        with pytest.raises(InputError, match=message):
            search(translator(), make_sentences(), shortlist=str(path))

    def test_missing_and_damaged_and_other_files_are_refused(self, tmp_path, written):
        with pytest.raises(InputError, match=r"nowhere.npz: no such file; make one with b2t shortlist"):
            shortlist.read(tmp_path / "nowhere.npz")
        content = (tmp_path / "shortlist.npz").read_bytes()
        np.savez(tmp_path / "other.npz", format="something else")
        damaged = {"half": content[: len(content) // 2], "empty": b"", "text": b"a ||| b ||| 0.5\n"}
        for name, wrong in damaged.items():
            (tmp_path / name).write_bytes(wrong)
            with pytest.raises(InputError, match=f"{name} is no shortlist, or it is damaged"):
                shortlist.read(tmp_path / name)
        with pytest.raises(InputError, match="has the format 'something else'"):
            shortlist.read(tmp_path / "other.npz")

    def test_numbers_that_fit_no_dictionary(self, tmp_path):
        make_shortlist(frequent=[NUM_SYMBOLS]).write(tmp_path / "large.npz")
        with pytest.raises(InputError, match="is damaged: its numbers do not fit"):
            search(translator(), make_sentences(), shortlist=str(tmp_path / "large.npz"))

    def test_a_file_that_is_written_again_is_read_again(self, tmp_path):
        path = tmp_path / "again.npz"
        for frequent in ([4], [5, 6]):
            make_shortlist(frequent=frequent).write(path)
            assert shortlist.read(path).frequent.tolist() == frequent


def test_our_own_search_is_used(written):
    """For plain beam search with more than a few candidates."""
    generator = BeamSearchGenerator([translator()], make_dictionary(WORDS))
    generator.shortlist = shortlist.read(written)
    assert generator._is_plain(generator._allowed(make_sentences(), None, None))

"""The beam search of ``--kernels fast`` finds the hypotheses of fairseq's, with the same scores."""

import re
import sys

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq_cli import generate
from helpers import make_dictionary, make_model, make_task, randomize
from language_models import make_lm
from searching import WORDS, make_sentences, make_translator
from speech import make_speech_batch, make_speech_model, make_speech_task
from training import SHARED, train

from b2t_fairseq.decoding import BeamSearchGenerator
from b2t_fairseq.decoding.candidates import candidates, largest
from b2t_fairseq.decoding.step_decoder import StepDecoder
from b2t_fairseq.kernels.attention import FusedMultiheadAttention
from b2t_fairseq.residual import SCHEMES

SETTINGS = [
    {"beam_size": 4, "max_len_b": 50},
    {"beam_size": 1, "max_len_b": 50},
    {"beam_size": 5, "len_penalty": 0.6, "max_len_a": 1.5, "max_len_b": 3},
    {"beam_size": 4, "max_len_b": 9, "min_len": 4, "unk_penalty": 0.7, "temperature": 1.3},
    {"beam_size": 3, "max_len_b": 25, "normalize_scores": False},
    {"beam_size": 4, "max_len_b": 30, "tokens_to_suppress": ["w03", "w11"]},
]


def make_generators(model, **settings):
    """Return fairseq's generator and ours."""
    dictionary = make_dictionary(WORDS)
    return [kind([model], dictionary, **settings) for kind in (SequenceGenerator, BeamSearchGenerator)]


def assert_same_hypotheses(theirs, ours):
    """Compare all hypotheses; return the set of their lengths.

    Hypotheses whose scores are equal to rounding may come in another order, or replace one another in the last place.
    """
    assert len(theirs) == len(ours)
    lengths = set()
    for their_hypotheses, hypotheses in zip(theirs, ours, strict=True):
        assert len(their_hypotheses) == len(hypotheses)
        for place, (their, own) in enumerate(zip(their_hypotheses, hypotheses, strict=True)):
            assert torch.allclose(their["score"], own["score"], atol=1e-4)
            twins = [h for h in their_hypotheses if torch.equal(h["tokens"], own["tokens"])]
            if not twins:
                gaps = [abs(their["score"] - other["score"]) for other in their_hypotheses if other is not their]
                assert place > 0
                assert min(gaps) < 1e-4 or place == len(hypotheses) - 1
                continue
            assert torch.allclose(twins[0]["positional_scores"], own["positional_scores"], atol=1e-3)
            assert own["tokens"].dtype == their["tokens"].dtype
            assert own.keys() == their.keys()
            lengths.add(len(own["tokens"]))
    return lengths


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(settings))
@pytest.mark.parametrize("scheme", ["b2t", "pre_ln"])
def test_hypotheses_and_scores_are_fairseqs(scheme, settings):
    lengths = set()
    for seed in range(3):
        model = make_translator(seed, residual=scheme)
        theirs, ours = make_generators(model, **settings)
        assert ours._is_plain()
        batch = make_sentences(9, lengths=11)
        lengths |= assert_same_hypotheses(theirs.generate([model], batch), ours.generate([model], batch))
    assert len(lengths) > 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_with_shared_layers_decodes_as_fairseq(scheme):
    flags = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2}
    model = randomize(make_model(task=make_task(WORDS), residual=scheme, **flags)).eval()
    theirs, ours = make_generators(model, beam_size=4, max_len_b=20)
    batch = make_sentences(5, lengths=11)
    assert_same_hypotheses(theirs.generate([model], batch), ours.generate([model], batch))


@pytest.mark.parametrize(
    "flags",
    [
        {"share_all_embeddings": False, "decoder_embed_dim": 24, "decoder_output_dim": 12},
        {"decoder_learned_pos": True, "layernorm_embedding": True, "no_scale_embedding": True},
        {"no_cross_attention": True},
        {"decoder_layerdrop": 0.5, "activation_fn": "gelu"},
    ],
    ids=lambda flags: " ".join(flags),
)
def test_models_with_other_settings_decode_as_fairseq(flags):
    model = randomize(make_model(task=make_task(WORDS), **flags)).eval()
    theirs, ours = make_generators(model, beam_size=4, max_len_b=20)
    assert ours._is_plain()
    batch = make_sentences(5, lengths=11)
    assert_same_hypotheses(theirs.generate([model], batch), ours.generate([model], batch))


def test_sources_without_padding_decode_as_fairseq():
    model = randomize(make_model(task=make_task(WORDS))).eval()
    theirs, ours = make_generators(model, beam_size=3, max_len_b=20)
    batch = make_sentences(1)
    assert_same_hypotheses(theirs.generate([model], batch), ours.generate([model], batch))


@pytest.mark.parametrize("padding", [True, False])
def test_speech_decodes_as_fairseq(padding):
    model = randomize(make_speech_model(task=make_speech_task(WORDS))).eval()
    theirs, ours = make_generators(model, beam_size=4, max_len_b=20)
    batch = make_speech_batch(padding)
    assert ours._is_plain()
    assert_same_hypotheses(theirs.generate([model], batch), ours.generate([model], batch))


def test_shared_layers_share_packed_weights(monkeypatch):
    flags = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2}
    decoder = make_model(task=make_task(WORDS), **flags).eval().decoder
    source = {"encoder_out": [torch.zeros(5, 3, 16)], "encoder_padding_mask": [torch.zeros(3, 5, dtype=torch.bool)]}
    calls = []
    plain = FusedMultiheadAttention.packed
    monkeypatch.setattr(FusedMultiheadAttention, "packed", lambda *args: calls.append(args[1:]) or plain(*args))
    weights = [layer.project for layer in StepDecoder(decoder, source, 4, 8).layers]
    assert decoder.indices == [0, 1, 0, 1, 1, 0]
    for first in range(6):
        for second in range(6):
            assert (weights[first] is weights[second]) == (decoder.indices[first] == decoder.indices[second])
    assert calls == [("q", "k", "v"), ("k", "v")] * 2


def decode(decoder, steps_between_moves, monkeypatch):
    """Take 40 steps in which hypotheses are given up, and a sentence ends; return features, and slots in use."""
    monkeypatch.setattr("b2t_fairseq.decoding.step_decoder._STEPS_BETWEEN_MOVES", steps_between_moves)
    random = torch.Generator().manual_seed(1)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [4]])
    source = {"encoder_out": [torch.randn(5, 3, 16, generator=random)], "encoder_padding_mask": [padding]}
    stepwise, features, used = StepDecoder(decoder, source, 4, 8), [], []
    sentences = 3
    for step in range(40):
        features.append(stepwise(torch.randint(4, WORDS, (sentences, 4), generator=random)))
        used.append(stepwise.used)
        if step == 20:
            stepwise.keep(torch.tensor([0, 2]))
            sentences = 2
        # Half of the hypotheses follow the first one, and none the last one.
        stepwise.follow(torch.randint(0, 4, (sentences, 4), generator=random).square() // 4)
    return torch.cat(features), used


@torch.no_grad()
def test_slots_that_no_hypothesis_sees_are_given_up(monkeypatch):
    decoder = randomize(make_model(task=make_task(WORDS))).eval().decoder
    features, used = decode(decoder, 8, monkeypatch)
    expected, all_slots = decode(decoder, 1000, monkeypatch)
    assert torch.allclose(features, expected, atol=1e-5)
    assert all_slots[:21] == [4 * step for step in range(1, 22)]
    # Without a look at every eighth step they are given up only where a sentence ends.
    assert all_slots[21] < all_slots[20]
    assert used[:8] == all_slots[:8]
    assert used[8] < all_slots[8]
    assert used[-1] < all_slots[-1] < 160


def test_weights_that_change_are_seen():
    """In validation one generator translates with the weights of later and later updates."""
    model = randomize(make_model(task=make_task(WORDS)), 1).eval()
    theirs, ours = make_generators(model, beam_size=4, max_len_b=20)
    batch = make_sentences(4, lengths=11)
    before = ours.generate([model], batch)
    randomize(model, 2)
    after = ours.generate([model], batch)
    assert_same_hypotheses(theirs.generate([model], batch), after)
    assert any(not torch.equal(a[0]["tokens"], b[0]["tokens"]) for a, b in zip(before, after, strict=True))


class TestLeftToFairseq:
    """Anything but plain beam search is done by fairseq's generator."""

    @pytest.fixture(autouse=True)
    def no_step_decoder(self, monkeypatch):
        """Make our own search fail."""

        def fail(*args):
            raise AssertionError("not fairseq's search")

        monkeypatch.setattr("b2t_fairseq.decoding.generator.StepDecoder", fail)

    def test_plain_beam_search_is_ours(self):
        model = make_model(task=make_task(WORDS)).eval()
        with pytest.raises(AssertionError, match="not fairseq's search"):
            make_generators(model)[1].generate([model], make_sentences(2))

    @pytest.mark.parametrize(
        "settings",
        [
            {"no_repeat_ngram_size": 2},
            {"search_strategy": search.Sampling(make_dictionary(WORDS))},
            {"search_strategy": search.DiverseBeamSearch(make_dictionary(WORDS), 2, 0.5), "beam_size": 4},
            {"lm_model": make_lm(task=make_task(WORDS)), "lm_weight": 0.1},
            {"beam_size": 20},
        ],
        ids=["ngrams", "sampling", "diverse", "language model", "few symbols"],
    )
    def test_sampling_and_other_searches_are_fairseqs(self, settings):
        model = make_model(task=make_task(WORDS)).eval()
        assert make_generators(model, max_len_b=5, **settings)[1].generate([model], make_sentences(2))

    @pytest.mark.parametrize(
        "flags",
        [
            {"kernels": "fairseq"},
            {"no_cross_attention": True, "cross_self_attention": True},
            {"share_all_embeddings": False, "adaptive_softmax_cutoff": "10,20"},
            {"quant_noise_pq": 0.1, "quant_noise_pq_block_size": 4},
        ],
        ids=lambda flags: " ".join(flags),
    )
    def test_models_that_our_search_does_not_know_are_fairseqs(self, flags):
        model = make_model(task=make_task(WORDS), **flags).eval()
        assert make_generators(model, max_len_b=5)[1].generate([model], make_sentences(2))

    def test_several_models_and_given_prefixes_are_fairseqs(self):
        models = [make_model(task=make_task(WORDS), seed=seed).eval() for seed in (1, 2)]
        batch = make_sentences(2)
        assert BeamSearchGenerator(models, make_dictionary(WORDS), max_len_b=5).generate(models, batch)
        ours = BeamSearchGenerator(models[:1], make_dictionary(WORDS), max_len_b=5)
        assert ours.generate(models[:1], batch, prefix_tokens=batch["target"][:, :2])

    def test_dropout_that_is_retained_is_fairseqs(self):
        model = make_model(task=make_task(WORDS), dropout=0.1).eval()
        model.decoder.layers[0].dropout_module.apply_during_inference = True
        assert make_generators(model, max_len_b=5)[1].generate([model], make_sentences(2))


class TestCandidates:
    def test_largest_equals_pytorchs_topk(self):
        logits = torch.randn(7, 5000, generator=torch.Generator().manual_seed(1))
        # The last columns do not fill a block.
        logits[0, -1] = 9
        for k in (1, 8, 16):
            theirs, ours = logits.topk(k), largest(logits, k)
            assert torch.equal(theirs.values, ours[0])
            assert torch.equal(theirs.indices, ours[1])

    @pytest.mark.parametrize("sentences", [1, 9])
    def test_candidates_are_the_best_of_all_continuations(self, sentences):
        """They are found in the log-probabilities of all symbols, however many rows fit into the cache."""
        generator = torch.Generator().manual_seed(1)
        logits = 5 * torch.randn(4 * sentences, 3000, generator=generator)
        scores = torch.randn(sentences, 4, generator=generator)
        totals = (logits.log_softmax(dim=1).view(sentences, 4, -1) + scores.unsqueeze(2)).flatten(1)
        expected = totals.topk(8)
        best, symbols, parents = candidates(logits, scores, {"never": [], "only": None, "penalties": {}})
        assert torch.equal(best, expected.values)
        assert torch.equal(parents * 3000 + symbols, expected.indices)

    def test_rules_forbid_force_and_penalize_symbols(self):
        logits, scores = torch.zeros(2, 30), torch.tensor([[-1.0, -2.0]])
        logits[:, 5], logits[:, 6], logits[:, 7] = 3, 2, 1
        rules = {"never": [5], "only": None, "penalties": {6: 1.5}}
        best, symbols, parents = candidates(logits.clone(), scores, rules)
        log_probs = logits.log_softmax(dim=1)
        assert (symbols[0, 0], parents[0, 0]) == (7, 0)
        assert best[0, 0] == pytest.approx(float(log_probs[0, 7] - 1))
        assert 5 not in symbols
        best, symbols, parents = candidates(logits.clone(), scores, {**rules, "only": 2})
        assert symbols.tolist() == [[2, 2]]
        assert parents.tolist() == [[0, 1]]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A trained model of 2 shared layers in each stack: its data and its checkpoint."""
    folder = tmp_path_factory.mktemp("decoding")
    layers = "--encoder-layers 2 --decoder-layers 2 --encoder-unique-layers 1 --decoder-unique-layers 1"
    train(data, folder, *SHARED, *layers.split(), "--max-epoch", "4")
    return data, str(folder / "checkpoint_last.pt")


def test_fairseq_generate_writes_the_same_translations(run, monkeypatch, capsys):
    data, checkpoint = run
    outputs = []
    for kernels in ("fairseq", "fast"):
        flags = ["--path", checkpoint, "--cpu", "--beam", "2", "--nbest", "2", "--num-workers", "0"]
        flags += ["--required-batch-size-multiple", "1", "--model-overrides", f"{{'kernels': '{kernels}'}}"]
        monkeypatch.setattr(sys, "argv", ["fairseq-generate", data, *flags])
        generate.cli_main()
        outputs.append(re.findall(r"^(H-\d+|P-\d+|D-\d+)\t(.*)", capsys.readouterr().out, flags=re.MULTILINE))
    assert len(outputs[0]) == len(outputs[1]) == 3 * 2 * 21
    for (name, theirs), (own_name, own) in zip(*outputs, strict=True):
        assert name == own_name
        if name.startswith("P"):
            assert [float(x) for x in own.split()] == pytest.approx([float(x) for x in theirs.split()], abs=2e-3)
        else:
            assert own.split("\t")[1] == theirs.split("\t")[1]


def test_all_of_fairseqs_commands_use_it():
    """They ask the translation task for a generator, which is fairseq's for anything but plain beam search."""
    task = TranslationTask(TranslationConfig(), make_dictionary(WORDS), make_dictionary(WORDS))
    models = [make_model(task=make_task(WORDS))]
    generation = type("Generation", (), {"beam": 2})
    assert type(task.build_generator(models, generation)) is BeamSearchGenerator
    generation.print_alignment = "hard"
    assert type(task.build_generator(models, generation)) is not BeamSearchGenerator

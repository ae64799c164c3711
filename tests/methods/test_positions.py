"""SHAPE shifts the positions of a sentence in training and nowhere else; all kinds of positions follow one flag."""

import multiprocessing

import pytest
import torch
from checks import check_training_and_decoding
from fairseq.modules import LearnedPositionalEmbedding, SinusoidalPositionalEmbedding
from helpers import make_batch, make_model
from language_models import make_lm
from speech import make_speech_batch, make_speech_model

from b2t_common.errors import InputError
from b2t_fairseq.positions import POSITIONS, ShiftedSinusoidalEmbedding

PAD = 1
TOKENS = torch.tensor([[PAD, PAD, 5, 6, 7], [5, 6, 7, 8, 9], [5, 6, PAD, PAD, PAD]])


def shifts(positions, tokens=TOKENS):
    """Return by how much each sentence is shifted; check that all of its words are shifted alike and padding is not."""
    rows = positions.shifted_positions(tokens)
    is_token = tokens != PAD
    assert (rows[~is_token] == PAD).all()
    plain = is_token.cumsum(1) + PAD
    moved = [(row - start)[kept] for row, start, kept in zip(rows, plain, is_token, strict=True)]
    assert all((shift == shift[0]).all() for shift in moved)
    return [shift[0].item() for shift in moved]


def test_each_sentence_has_a_shift_below_k():
    torch.manual_seed(1)
    positions = ShiftedSinusoidalEmbedding(1024, 16, PAD, offsets=3)
    drawn = [shifts(positions) for _ in range(100)]
    counts = torch.tensor(drawn).flatten().bincount()
    assert len(counts) == 3
    # 300 numbers, 100 of each expected; four standard deviations are 33.
    assert (counts - 100).abs().max() < 33
    assert any(len(set(sentences)) > 1 for sentences in drawn)


def test_a_shifted_sentence_fits_into_the_table():
    """A sentence of n words in a table of 6 positions has 7 - n choices."""
    positions = ShiftedSinusoidalEmbedding(6, 16, PAD, offsets=500)
    torch.manual_seed(1)
    drawn = torch.tensor([shifts(positions) for _ in range(60)])
    assert drawn.max(dim=0).values.tolist() == [3, 1, 4]
    assert positions(TOKENS).shape == (3, 5, 16)
    longer = torch.full((1, 9), 5)
    assert torch.equal(positions(longer), positions.eval()(longer))


def test_the_vectors_are_those_of_the_shifted_positions():
    shifted = ShiftedSinusoidalEmbedding(1024, 16, PAD, offsets=500)
    plain = SinusoidalPositionalEmbedding(16, PAD, init_size=1026)
    torch.manual_seed(3)
    vectors = shifted(TOKENS)
    torch.manual_seed(3)
    for sentence, (shift, row) in enumerate(zip(shifts(shifted), TOKENS, strict=True)):
        longer = torch.cat([torch.full((shift,), 4), row[row != PAD]])
        assert torch.equal(plain(longer[None])[0, shift:], vectors[sentence, row != PAD])
    assert torch.equal(shifted.eval()(TOKENS), plain(TOKENS))


def draws(rank):
    """Return what a process with a rank draws in one update, for source and target."""
    positions = ShiftedSinusoidalEmbedding(1024, 16, PAD, offsets=500)
    torch.manual_seed(7)
    return [shifts(positions), shifts(positions)]


def _draws_of_process(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(draws(rank), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_draw_different_shifts(tmp_path):
    """fairseq gives all processes the same seed; the first one draws what a process alone draws."""
    processes = [
        multiprocessing.get_context("fork").Process(target=_draws_of_process, args=(rank, tmp_path)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first == draws(0)
    assert first[0] != first[1]
    assert not {shift for side in first for shift in side} & {shift for side in second for shift in side}


@pytest.mark.parametrize("positions", ["learned", "shape"])
def test_a_model_trains_saves_loads_and_decodes_step_by_step(positions, tmp_path):
    def build(seed):
        return make_model(positions=positions, shape_offsets=500, encoder_layers=2, decoder_layers=2, seed=seed)

    torch.manual_seed(1)
    check_training_and_decoding(build, make_batch(), tmp_path)


def test_a_model_with_shape_is_in_evaluation_one_with_sinusoidal_positions():
    """A checkpoint of the one is one of the other, so fine-tuning can begin or end with SHAPE."""
    plain, shape = make_model(), make_model(positions="shape")
    inputs = make_batch()["net_input"]
    assert not torch.equal(plain(**inputs)[0], shape(**inputs)[0])
    for model in (plain, shape):
        model.eval()
    assert torch.equal(plain(**inputs)[0], shape(**inputs)[0])
    shape.load_state_dict(plain.state_dict())


KINDS = {None: SinusoidalPositionalEmbedding, **{name: kind.module for name, kind in POSITIONS.items()}}


@pytest.mark.parametrize("name", KINDS)
def test_all_kinds_of_models_have_the_positions(name):
    models = [make_model(positions=name), make_lm(positions=name), make_speech_model(positions=name)]
    models[2](**make_speech_batch()["net_input"])[0].sum().backward()
    stacks = [getattr(model, stack) for model in models for stack in ("encoder", "decoder") if hasattr(model, stack)]
    assert {type(stack.embed_positions) for stack in stacks} == {KINDS[name]}


def test_learned_positions_are_fairseqs():
    """With its own flags a model has the same random numbers, and each stack has the flag of its own."""
    flags = {"encoder_learned_pos": True, "decoder_learned_pos": True}
    models = [make_model(**given) for given in (flags, {"positions": "learned"}, {"positions": "learned", **flags})]
    states = [model.state_dict() for model in models]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(tensor, states[0][name]) for name, tensor in state.items())
    mixed = make_model(encoder_learned_pos=True)
    assert type(mixed.encoder.embed_positions) is LearnedPositionalEmbedding
    assert type(mixed.decoder.embed_positions) is SinusoidalPositionalEmbedding


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"positions": "rotary"}, ["--positions rotary", *POSITIONS]),
        ({"positions": "shape", "encoder_learned_pos": True}, ["--positions shape", "--encoder-learned-pos"]),
        ({"positions": "sinusoidal", "decoder_learned_pos": True}, ["--positions sinusoidal", "--decoder-learned-pos"]),
        (
            {"positions": "shape", "no_token_positional_embeddings": True},
            ["--positions shape", "--no-token-positional-embeddings"],
        ),
        ({"positions": "shape", "shape_offsets": 1}, ["--shape-offsets 1", "--positions shape"]),
        ({"positions": "learned", "shape_offsets": 9}, ["--shape-offsets 9", "--positions learned"]),
        ({"shape_offsets": 9}, ["--shape-offsets 9", "--positions shape"]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_the_positions_are_refused(flags, words):
    """The message quotes both settings."""
    with pytest.raises(InputError) as error:
        make_model(**flags)
    assert all(word in str(error.value) for word in words), error.value


def test_a_language_model_whose_blocks_fill_all_positions_is_refused():
    """With more positions than a block has tokens it is built."""
    with pytest.raises(InputError, match=r"--positions shape .* --tokens-per-sample 64 .* --max-target-positions 563"):
        make_lm(positions="shape", tokens_per_sample=64)
    make_lm(positions="shape", tokens_per_sample=64, max_target_positions=563)

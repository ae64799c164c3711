"""``b2t grow``: deeper models that start from trained layers, and shared models that are untied."""

import pytest
import torch
from helpers import fill, make_batch, make_model, model_settings, randomize
from language_models import SMALL_LM, make_lm, make_lm_batch
from speech import MELS, make_speech_batch, make_speech_model
from speech import SMALL as SMALL_SPEECH
from training import SHARED, load, train

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_fairseq.settings.fields import B2TLanguageModelConfig, B2TTransformerConfig, as_namespace

THREE = {"encoder_layers": 3, "decoder_layers": 3}
SIX = ["--encoder-layers", "6", "--decoder-layers", "6"]
TIED = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2}


def write(path, model, settings, config_class=B2TTransformerConfig):
    """Write a checkpoint as fairseq-train does."""
    settings = as_namespace(settings, config_class)
    settings._name = settings.arch
    state = {"args": None, "cfg": {"model": settings, "task": {}}, "model": model.state_dict()}
    state |= {"optimizer_history": [{"num_updates": 7}], "last_optimizer_state": {}, "extra_state": {"best": 1.0}}
    torch.save(state, path)
    return path


def translation(path, seed=0, **flags):
    """Write the checkpoint of a small translation model; return the model."""
    model = randomize(make_model(**flags), seed)
    write(path, model, model_settings(**flags))
    return model.eval()


def grow(path, *flags, output=None):
    """Grow a checkpoint; return the new one."""
    output = output or path.with_name("grown.pt")
    assert b2t(["grow", str(path), *flags, "--output", str(output)]) == 0
    return load(output)


def rebuilt(state, make, **fixed):
    """Build the model of a checkpoint from the settings that it holds."""
    names = {"layer_sharing", "encoder_layers", "decoder_layers", "encoder_unique_layers", "decoder_unique_layers"}
    names |= {"share_sublayers", "share_norms", "share_encoder_decoder", "residual"}
    settings = vars(state["cfg"]["model"])
    model = make(**{name: settings[name] for name in names & settings.keys()}, **fixed)
    model.load_state_dict(state["model"])
    return model.eval()


@pytest.mark.parametrize(
    ("order", "encoder", "decoder"),
    [
        ("sequence", [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]),
        ("cycle", [0, 1, 2] * 2, [0, 1, 2] * 2),
        ("cycle_rev", [0, 1, 2, 2, 1, 0], [0, 1, 2, 2, 1, 0]),
        ("sandwich", [0, 1, 1, 1, 1, 2], [0, 1, 1, 1, 1, 2]),
        ("2,2,2,0,0,0", [2, 2, 2, 0, 0, 0], [2, 2, 2, 0, 0, 0]),
        ("cycle/0,0,0,0,1,2", [0, 1, 2] * 2, [0, 0, 0, 0, 1, 2]),
    ],
)
def test_each_layer_starts_as_a_layer_of_the_shallow_model(tmp_path, order, encoder, decoder):
    """All else is that of the shallow model too, and the deep one shares nothing."""
    shallow = translation(tmp_path / "shallow.pt", **THREE)
    state = grow(tmp_path / "shallow.pt", *SIX, "--from", order)
    deep = rebuilt(state, make_model)
    for stack, sources in (("encoder", encoder), ("decoder", decoder)):
        layers, theirs = getattr(deep, stack).layers, getattr(shallow, stack).layers
        for layer, source in zip(layers, sources, strict=True):
            for name, parameter in layer.named_parameters():
                assert torch.equal(parameter, theirs[source].get_parameter(name)), name
    assert torch.equal(deep.encoder.embed_tokens.weight, shallow.encoder.embed_tokens.weight)
    assert state["last_optimizer_state"] is None
    assert state["extra_state"] == {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "shuffle": True}}
    weights = [state["model"][f"encoder.layers.{depth}.fc1.weight"].data_ptr() for depth in range(6)]
    assert len(set(weights)) == 6


@pytest.mark.parametrize(
    "flags",
    [
        TIED,
        {"residual": "admin", **TIED},
        {"residual": "dlcl", **TIED},
        {"share_encoder_decoder": True},
        {"layer_sharing": "0,1,1,1,1,2", "share_sublayers": "feed_forward", "share_norms": False},
    ],
    ids=str,
)
def test_an_untied_model_computes_the_same(tmp_path, flags, capsys):
    shared = translation(tmp_path / "shared.pt", **flags)
    state = grow(tmp_path / "shared.pt")
    assert "checked: log-probabilities of" in capsys.readouterr().out
    untied = rebuilt(state, make_model)
    batch = make_batch()["net_input"]
    with torch.no_grad():
        assert torch.equal(untied(**batch)[0], shared(**batch)[0])
    layers = [*untied.encoder.layers, *untied.decoder.layers]
    assert len({id(layer.fc1.weight) for layer in layers}) == 12


def test_the_sets_of_a_shared_model_grow(tmp_path):
    shared = translation(tmp_path / "shared.pt", **TIED)
    state = grow(tmp_path / "shared.pt", "--encoder-layers", "9", "--from", "sequence")
    deep = rebuilt(state, make_model)
    for layer, source in zip(deep.encoder.layers, [0, 0, 0, 1, 1, 1, 2, 2, 2], strict=True):
        assert torch.equal(layer.fc1.weight, shared.encoder.layers[source].fc1.weight)


def test_what_depends_on_depth_is_made_anew(tmp_path):
    """Admin's omegas are to be measured again; DeepNorm's alpha and DLCL's weights are those of the deep model."""
    for residual in ("admin", "deepnorm", "dlcl", "rezero"):
        shallow = translation(tmp_path / "shallow.pt", residual=residual, **THREE)
        deep = rebuilt(grow(tmp_path / "shallow.pt", *SIX, "--from", "cycle"), make_model)
        fresh = make_model(residual=residual)
        for number, (layer, other) in enumerate(zip(deep.decoder.layers, fresh.decoder.layers, strict=True)):
            if residual == "admin":
                assert torch.equal(layer.residual.omega, other.residual.omega)
                assert not layer.residual.profiled
            elif residual == "deepnorm":
                assert layer.residual.alpha == (3 * 6) ** 0.25
            elif residual == "rezero":
                assert torch.equal(layer.residual.alpha, shallow.decoder.layers[number % 3].residual.alpha)
        if residual == "dlcl":
            for ours, theirs in zip(deep.decoder.inputs, fresh.decoder.inputs, strict=True):
                assert torch.equal(ours.weights, theirs.weights)


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ({"layer_sharing": "cycle", "decoder_unique_layers": 3}, []),
        ({"decoder_layers": 3}, ["--decoder-layers", "6", "--from", "cycle"]),
    ],
)
def test_a_language_model_is_untied_and_grows(tmp_path, flags, asked):
    model = randomize(make_lm(**flags)).eval()
    settings = fill("b2t_transformer_lm", {**SMALL_LM, **flags})
    grown = rebuilt(grow(write(tmp_path / "lm.pt", model, settings, B2TLanguageModelConfig), *asked), make_lm)
    for depth, layer in enumerate(grown.decoder.layers):
        assert torch.equal(layer.fc1.weight, model.decoder.layers[depth % 3].fc1.weight)
    with torch.no_grad():
        same = torch.equal(*(m(**make_lm_batch()["net_input"])[0] for m in (grown, model)))
    assert same == (not asked)


def test_a_speech_model_is_untied(tmp_path):
    flags = {"layer_sharing": "cycle", "encoder_unique_layers": 3, "decoder_unique_layers": 2}
    model = randomize(make_speech_model(**flags)).eval()
    given = {"input_feat_per_channel": MELS, "input_channels": 1, "max_source_positions": 100, **SMALL_SPEECH, **flags}
    settings = fill("b2t_s2t_transformer", {"max_target_positions": 50, **given})
    grown = rebuilt(grow(write(tmp_path / "speech.pt", model, settings)), make_speech_model)
    with torch.no_grad():
        batch = make_speech_batch()["net_input"]
        assert torch.equal(grown(**batch)[0], model(**batch)[0])


REFUSED = [
    (THREE, ["--encoder-layers", "2", "--from", "cycle"], ["--encoder-layers 2", "has 3 layers"]),
    (THREE, [*SIX, "--from", "0,1,2,3,0,1"], ["0,1,2,3,0,1 names set 3", "sets 0 to 2"]),
    (THREE, [*SIX, "--from", "0,1,2"], ["0,1,2 lists 3 layers", "to have 6"]),
    (THREE, SIX, ["--encoder-layers 6", "has 3 layers", "--from", "sequence"]),
    (THREE, ["--decoder-layers", "7", "--encoder-layers", "6", "--from", "cycle"], ["cycle", "7 layers", "3, 6, 9"]),
    (THREE, [*SIX, "--from", "spiral"], ["--from spiral", "sequence, cycle, cycle_rev"]),
    (THREE, [], ["3-3 layers already", "nothing to do"]),
    (THREE, ["--from", "cycle"], ["3-3 layers already", "nothing to do"]),
    ({"encoder_layers_to_keep": "0,1", "decoder_layers_to_keep": "0,1"}, SIX, ["--encoder-layers-to-keep 0,1"]),
]


@pytest.mark.parametrize(("flags", "asked", "words"), REFUSED)
def test_what_is_no_growth_is_refused_in_one_line(tmp_path, capsys, flags, asked, words):
    """The message quotes both values, and nothing is written."""
    translation(tmp_path / "shallow.pt", **flags)
    capsys.readouterr()
    assert b2t(["grow", str(tmp_path / "shallow.pt"), *asked]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert all(word in line for word in words), line
    assert [path.name for path in tmp_path.iterdir()] == ["shallow.pt"]


def test_a_stack_that_does_not_grow_keeps_what_belongs_to_its_depths(tmp_path):
    shallow = translation(tmp_path / "shallow.pt", residual="dlcl", **THREE)
    deep = rebuilt(grow(tmp_path / "shallow.pt", "--decoder-layers", "6", "--from", "cycle"), make_model)
    for ours, theirs in zip(deep.encoder.inputs, shallow.encoder.inputs, strict=True):
        assert torch.equal(ours.weights, theirs.weights)


def test_a_diverged_model_is_not_untied(tmp_path, capsys):
    model = make_model(**TIED)
    model.encoder.layers[0].fc1.weight.data.fill_(float("nan"))
    write(tmp_path / "shared.pt", model, model_settings(**TIED))
    assert b2t(["grow", str(tmp_path / "shared.pt")]) == 1
    assert "nothing is written; has the training diverged?" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["shared.pt"]


def test_the_checkpoint_itself_is_not_overwritten(tmp_path, capsys):
    translation(tmp_path / "grown.pt", **TIED)
    before = (tmp_path / "grown.pt").read_bytes()
    assert b2t(["grow", str(tmp_path / "grown.pt")]) == 1
    assert "is the checkpoint itself" in capsys.readouterr().err
    assert (tmp_path / "grown.pt").read_bytes() == before
    assert b2t(["grow", str(tmp_path / "nowhere")]) == 1
    assert "neither such a run nor such a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("residual", ["b2t", "admin"])
def test_a_run_grows_and_trains_on(corpus, tmp_path, residual, capsys):
    """The deeper run begins with the grown weights, and measures Admin's omegas on them."""
    data, flags = str(corpus / "bin"), ["--residual", residual, "--max-update", "2"]
    train(data, tmp_path / "shallow", *flags, *SHARED, command=b2t_train)
    state = grow(tmp_path / "shallow", "--encoder-layers", "6", "--decoder-layers", "6", "--from", "cycle")
    assert state["model"]._metadata["encoder"]["dictionary"]
    capsys.readouterr()
    finetune = ["--finetune-from-model", str(tmp_path / "grown.pt"), *SIX, *flags, "--lr", "1e-9"]
    deep = train(data, tmp_path / "deep", *finetune, command=b2t_train)["model"]
    assert (deep["encoder.layers.4.fc1.weight"] - state["model"]["encoder.layers.4.fc1.weight"]).abs().max() < 1e-6
    if residual == "admin":
        assert deep["encoder.layers.5.residual.omega"].min() > 1
        assert deep["encoder.layers.5.residual.profiled"]

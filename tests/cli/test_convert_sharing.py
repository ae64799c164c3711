"""``b2t convert``: which layers share parameters follows from the settings and is checked by the weights."""

import json
import re

import pytest
import torch
from conversion import SEQUENCE, convert, first_layers, loaded, refused
from golden import GOLDEN, Golden
from releases import raw_state, release_checkpoint

from b2t_cli.conversion.layer_sets import release_indices
from b2t_common.errors import InputError

pytestmark = pytest.mark.usefixtures("settings_translated_once")


def test_release_indices_are_the_releases():
    maps = json.loads((GOLDEN / "share_layer_params/layer_maps.json").read_text())["owner_layer"]
    for share_type, cases in maps.items():
        for key, owners in cases.items():
            k = int(key.split("K=")[1])
            indices = release_indices(share_type, len(owners), k)
            assert [indices.index(index) for index in indices] == owners, (share_type, key)


@pytest.mark.parametrize(
    ("k", "share_type", "message"), [(0, "cycle", "cannot build"), (2, "spiral", "spiral is not one of the release's")]
)
def test_an_order_that_the_release_does_not_have_is_refused(k, share_type, message):
    with pytest.raises(InputError, match=message):
        release_indices(share_type, 6, k)


@pytest.mark.parametrize("slip", [True, False])
def test_order_of_no_strategy_becomes_a_list(slip, tmp_path, capsys):
    """With K=4 of N=6 layers the release's order is 0 0 0 0 1 1, which no strategy has."""
    checkpoint = release_checkpoint(SEQUENCE, share_layer_num=4)
    checkpoint["model"] = first_layers(checkpoint["model"], [0, 0, 0, 0, 4, 4], slip)
    path = convert(checkpoint, tmp_path)
    report = capsys.readouterr().out
    _, model, cfg = loaded(SEQUENCE, path, tmp_path)
    if slip:
        assert "untied, to keep the function exactly" in report
        assert cfg.model.layer_sharing == "none"
        assert torch.equal(model.encoder.layers[0].fc1.weight, model.encoder.layers[3].fc1.weight)
        _, model, cfg = loaded(SEQUENCE, convert(checkpoint, tmp_path, "--retie"), tmp_path)
    assert cfg.model.layer_sharing == "0,0,0,0,1,1"
    for layers in (model.encoder.layers, model.decoder.layers):
        assert layers[0].fc1.weight is layers[3].fc1.weight
        assert layers[0].fc1.weight is not layers[4].fc1.weight


def test_without_the_slip_layers_are_tied(tmp_path, capsys):
    checkpoint = release_checkpoint(SEQUENCE, share_layer_num=6)
    checkpoint["model"] = first_layers(checkpoint["model"], [0] * 6, slip=False)
    _, model, cfg = loaded(SEQUENCE, convert(checkpoint, tmp_path), tmp_path)
    assert (cfg.model.layer_sharing, cfg.model.encoder_unique_layers) == ("sequence", 1)
    assert model.decoder.layers[0].fc1.weight is model.decoder.layers[5].fc1.weight
    assert "untied" not in capsys.readouterr().out
    convert(checkpoint, tmp_path, "--retie")
    assert "--retie changed nothing" in capsys.readouterr().out


def test_one_layer_in_each_set_is_no_sharing(tmp_path, capsys):
    checkpoint = release_checkpoint("b2t_connection/postln_3_3", share_params_cross_layer=True)
    checkpoint["args"].share_layer_num, checkpoint["args"].share_type = 1, "cycle_reverse"
    _, _, cfg = loaded("b2t_connection/postln_3_3", convert(checkpoint, tmp_path), tmp_path)
    assert cfg.model.layer_sharing == "none"
    assert "--share-layer-num 1 shares nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "encoder.layers.1.fc2.bias",
            r"encoder layers use the parameter sets 0 0 1 1 2 2, but by its weights 0 1 2 2",
        ),
        (
            "decoder.layers.5.encoder_attn.in_proj_bias",
            "decoder layer 5 shares with layer 4, but its cross-attention",
        ),
        ("decoder.embed_tokens.weight", "settings tie (de|en)coder.embed_tokens.weight to another"),
    ],
)
def test_weights_that_contradict_the_settings_are_refused(name, message, tmp_path, capsys):
    checkpoint = release_checkpoint(SEQUENCE)
    checkpoint["model"][name] = checkpoint["model"][name] + 0.5
    assert re.search(message, refused(checkpoint, tmp_path, capsys))


def test_pre_ln_with_shared_layers_is_converted(tmp_path):
    """There is no recording of such a model; scheme, order and final norms are compared."""
    shared = release_checkpoint(SEQUENCE, encoder_normalize_before=True, decoder_normalize_before=True)
    norms = {k: v for k, v in raw_state(Golden("b2t_connection/preln_3_3")).items() if "coder.layer_norm" in k}
    assert len(norms) == 4
    shared["model"].update(norms)
    _, model, cfg = loaded(SEQUENCE, convert(shared, tmp_path, "--retie"), tmp_path)
    assert (cfg.model.residual, cfg.model.layer_sharing) == ("pre_ln", "sequence")
    assert torch.equal(model.encoder.layer_norm.weight, norms["encoder.layer_norm.weight"])

"""The models give the numbers that were recorded from the two papers' own releases."""

import json
import re
from typing import NamedTuple

import pytest
import torch
from golden import GOLDEN, Golden, release_loss, translate
from helpers import make_model

from b2t_fairseq import admin_profile
from b2t_fairseq.sharing import layer_indices

ADMIN = "share_layer_params/admin_cycle_reverse_n6_k2"
CYCLE_REV = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 3}

STRATEGIES = {"sequence": "sequence", "cycle": "cycle", "cycle_reverse": "cycle_rev"}  # the release's names and ours


class Configuration(NamedTuple):
    """The settings of a recorded model, and which of its recorded numbers are compared."""

    settings: dict
    outputs: str = "out/"
    gradients: str = "grad/"
    translations: str = "generation"


# The sharing release has a slip: a copied layer of the decoder takes the biases of its cross-attention from the first
# layer's self-attention. Its numbers are recorded with the slip, and "fixed", without it. Only a model without tied
# layers can have the slip, as ADMIN below.
FIXED = ("fixed/", "fixed/grad/", "generation_fixed")
CONFIGURATIONS = {
    "b2t_connection/postln_3_3": Configuration({"residual": "post_ln"}),
    "b2t_connection/preln_3_3": Configuration({"residual": "pre_ln"}),
    "b2t_connection/b2t_3_3": Configuration({"residual": "b2t"}),
    **{
        f"share_layer_params/{release_name}_n6_k2": Configuration(
            {**CYCLE_REV, "residual": "post_ln", "layer_sharing": name}, *FIXED
        )
        for release_name, name in STRATEGIES.items()
    },
    ADMIN: Configuration({"residual": "admin"}),
}


def load(name, **flags):
    """Return what was recorded of a model, and this plugin's model with the same parameters."""
    golden = Golden(name)
    layers = 6 if name.startswith("share") else 3
    model = make_model(task=golden.task, encoder_layers=layers, decoder_layers=layers, **flags)
    state = golden.state()
    shared = "layer_sharing" in flags
    for key in [key for key in state if "encoder_attn.q_proj.bias" in key] if shared else []:
        # Undo the slip: a copied layer takes the biases of its cross-attention from the first layer of its set.
        depth = int(key.split(".")[2])
        owner = model.decoder.indices.index(model.decoder.indices[depth])
        for part in "qkv":
            bias = f"decoder.layers.{{}}.encoder_attn.{part}_proj.bias"
            state[bias.format(depth)] = state[bias.format(owner)]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert all(key.endswith(("version", "_float_tensor", "output_projection.weight", "profiled")) for key in missing)
    assert not unexpected
    return golden, model


def assert_gradients(golden, model, expected, everything=True):
    """Compare gradients; if the release ties parameters that the model does not tie, the model's are added up."""
    owners = {key: golden_key for golden_key, keys in golden.groups().items() for key in keys}
    sums = {}
    for key, parameter in model.named_parameters():
        owner = owners.get(key, key)
        sums[owner] = sums.get(owner, 0) + parameter.grad
    assert not everything or set(sums) <= set(expected)
    for key in sums.keys() & expected.keys():
        assert (sums[key] - expected[key]).abs().max() < 1e-4, key


@pytest.mark.parametrize("name", CONFIGURATIONS)
class TestRelease:
    def test_logits_states_and_attention(self, name):
        """Logits, the output of each decoder layer, the encoder's output and the attention are the release's."""
        settings, out, _, _ = CONFIGURATIONS[name]
        golden, model = load(name, **settings)
        model.eval()
        batch = golden.batch()
        with torch.no_grad():
            logits, extra = model(**batch["net_input"])
            encoder_out = model.encoder(
                batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"], return_all_hiddens=True
            )
        real = batch["target"] != golden.meta["pad"]
        assert (logits - golden[f"{out}logits"])[real].abs().max() < 1e-5
        source = batch["net_input"]["src_tokens"].t() != golden.meta["pad"]
        assert (encoder_out["encoder_out"][0] - golden["out/encoder_out"])[source].abs().max() < 1e-5
        for layer, expected in zip(extra["inner_states"], golden[f"{out}decoder_inner_states"], strict=True):
            assert (layer - expected)[real.t()].abs().max() < 1e-5
        if out == "out/":
            assert (extra["attn"][0] - golden["out/attn"])[real].abs().max() < 1e-5

    def test_loss_and_gradients_are_the_releases(self, name):
        settings, out, grad, _ = CONFIGURATIONS[name]
        golden, model = load(name, **settings)
        batch = golden.batch()
        model.train()
        loss = release_loss(model(**batch["net_input"])[0], batch["target"])
        assert abs(loss.item() - golden[f"{out}loss"].item()) < 1e-4
        loss.backward()
        assert_gradients(golden, model, golden.state(grad))

    @pytest.mark.parametrize("beam", [1, 4])
    def test_translations_and_scores_are_the_releases(self, name, beam):
        settings, _, _, generation = CONFIGURATIONS[name]
        golden, model = load(name, **settings)
        model.eval()
        hypotheses = translate(model, golden.dictionary, golden.batch(), beam)
        expected = golden.meta[generation]["greedy" if beam == 1 else "beam4"]
        for ours, theirs in zip(hypotheses, expected, strict=True):
            assert [hypothesis["tokens"].tolist() for hypothesis in ours] == [h["tokens"] for h in theirs]
            for hypothesis, other in zip(ours, theirs, strict=True):
                assert abs(hypothesis["score"].item() - other["score"]) < 1e-5


def test_admin_with_shared_layers_is_the_release_without_its_slip():
    """Layers are tied, and each sub-layer of each layer has an omega of its own."""
    golden, model = load(ADMIN, residual="admin", **CYCLE_REV)
    assert len({id(layer.residual.omega) for layer in model.decoder.layers}) == 6
    batch = golden.batch()
    logits, _ = model(**batch["net_input"])
    real = batch["target"] != golden.meta["pad"]
    assert (logits - golden["fixed/logits"])[real].abs().max() < 1e-5
    release_loss(logits, batch["target"]).backward()
    expected = golden.state("fixed/grad/")
    assert_gradients(golden, model, expected)


def test_admin_with_trained_omegas_is_the_release():
    """After training an omega is no longer one number but a vector."""
    golden, model = load(ADMIN, residual="admin")
    omegas = golden.state("randratio/state/")
    assert set(omegas) == {name for name, _ in model.named_parameters() if "omega" in name}
    model.load_state_dict({**model.state_dict(), **omegas})
    batch = golden.batch()
    loss = release_loss(model(**batch["net_input"])[0], batch["target"])
    assert abs(loss.item() - golden["randratio/loss"].item()) < 1e-4
    loss.backward()
    gradients = golden.state("randratio/grad/")
    assert set(omegas) < set(gradients)
    assert_gradients(golden, model, gradients, everything=False)


@pytest.mark.parametrize(
    ("flags", "key"), [({}, "file_text"), (CYCLE_REV, "file_text_with_fixed_cross_attention_bias")]
)
def test_admin_profile_is_the_releases(tmp_path, flags, key):
    """On the release's first batch the same omegas are measured, and the release's own profile file can be read."""
    golden, model = load(ADMIN, residual="admin", **flags)
    for stack in (model.encoder, model.decoder):
        for layer in stack.layers:
            layer.residual.omega.data.fill_(1)
    assert not admin_profile.is_profiled(model)
    admin_profile.measure(model, golden.batch()["net_input"])
    assert admin_profile.is_profiled(model)
    admin_profile.write(model, tmp_path / "profile")
    ours, theirs = (
        [(int(number), float(omega)) for number, omega in map(str.split, text.splitlines())]
        for text in ((tmp_path / "profile").read_text(), golden.meta["profile"][key])
    )
    assert [number for number, _ in ours] == [number for number, _ in theirs]
    assert [omega for _, omega in ours] == pytest.approx([omega for _, omega in theirs], rel=1e-6)
    (tmp_path / "release").write_text(golden.meta["profile"][key])
    other = load(ADMIN, residual="admin", **flags)[1]
    admin_profile.read(other, tmp_path / "release")
    for layer, its in zip(other.decoder.layers, model.decoder.layers, strict=True):
        assert torch.allclose(layer.residual.omega, its.residual.omega, rtol=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_word_dropout_is_the_releases(seed, monkeypatch):
    """With the same words dropped, logits, loss and gradients are the release's."""
    golden, model = load(
        "b2t_connection/worddrop_b2t_3_3",
        residual="b2t",
        encoder_word_dropout=0.3,
        decoder_word_dropout=0.4,
    )
    prefix = f"worddrop/seed{seed}/"
    for stack, side in ((model.encoder, "enc"), (model.decoder, "dec")):
        keep = golden[f"{prefix}{side}_keep"].float()
        monkeypatch.setattr(stack.word_dropout, "draw_keep_mask", lambda embeddings, keep=keep: keep)
    batch = golden.batch()
    model.train()
    logits, _ = model(**batch["net_input"])
    real = batch["target"] != golden.meta["pad"]
    assert (logits - golden[f"{prefix}logits"])[real].abs().max() < 1e-5
    loss = release_loss(logits, batch["target"])
    assert abs(loss.item() - golden[f"{prefix}loss"].item()) < 1e-4
    expected = golden.state(f"{prefix}grad/")
    if expected:
        loss.backward()
        assert_gradients(golden, model, expected)


def test_index_lists_are_the_releases():
    """They are the same wherever M divides N; elsewhere the release's order has gaps."""
    maps = json.loads((GOLDEN / "share_layer_params/layer_maps.json").read_text())["owner_layer"]
    compared = 0
    for release_name, name in STRATEGIES.items():
        for key, owners in maps[release_name].items():
            num_layers, num_unique_layers = len(owners), len(set(owners))
            repeats = int(key.split("K=")[1])
            if repeats < 1 or num_layers % repeats:
                continue
            indices = layer_indices(name, num_layers, num_unique_layers)
            assert [indices.index(index) for index in indices] == owners, (name, key)
            compared += 1
    assert compared >= 100


def test_depth_scaled_initialization_scales_what_the_release_scales():
    check = json.loads((GOLDEN / "b2t_connection/init_scale.json").read_text())["scaling_check"]
    plain, scaled = (
        dict(make_model(encoder_layers=12, decoder_layers=6, depth_scaled_init=on).named_parameters())
        for on in (False, True)
    )
    for name, parameter in plain.items():
        pattern = re.sub(r"layers\.\d+", "layers.*", name)
        assert (pattern in check["scaled"]) != (pattern in check["not_scaled"]), name
        factor = (12 if name.startswith("encoder") else 6) ** -0.5 if pattern in check["scaled"] else 1.0
        assert torch.equal(scaled[name], parameter * factor), name


@pytest.mark.parametrize(
    ("name", "layers", "flags"),
    [
        ("postln_12_6", (12, 6), {"residual": "post_ln"}),
        ("b2t_12_6", (12, 6), {"residual": "b2t", "depth_scaled_init": True}),
        ("b2t_18_18", (18, 18), {"residual": "b2t", "depth_scaled_init": True}),
    ],
)
def test_initialization_is_the_releases(name, layers, flags):
    """With the same seed, every tensor has the release's mean, standard deviation and largest absolute value."""
    recorded = json.loads((GOLDEN / "b2t_connection/init_scale.json").read_text())["stats"][name]
    sizes = {"encoder_embed_dim": 64, "encoder_ffn_embed_dim": 256}
    model = make_model(encoder_layers=layers[0], decoder_layers=layers[1], **sizes, **flags)
    state = model.state_dict()
    assert len(recorded) > 50
    for key, expected in recorded.items():
        tensor = state[key].double()
        assert list(tensor.shape) == expected["shape"]
        assert tensor.mean().item() == pytest.approx(expected["mean"], abs=1e-7), key
        assert tensor.std(unbiased=False).item() == pytest.approx(expected["std"], abs=1e-7), key
        assert tensor.abs().max().item() == pytest.approx(expected["absmax"], abs=1e-7), key

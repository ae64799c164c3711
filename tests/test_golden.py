"""Parity with the numbers recorded from the two papers' own releases."""

import json
import re

import pytest
import torch
from helpers import GOLDEN, Golden, make_model, release_loss, translate

from b2t_fairseq.sharing import layer_indices

# golden file: (its flags here, prefix of the arrays and key of the translations to compare with)
CONFIGURATIONS = {
    "b2t_connection/postln_3_3": ({"residual": "post_ln"}, "out/", "grad/", "generation"),
    "b2t_connection/preln_3_3": ({"residual": "pre_ln"}, "out/", "grad/", "generation"),
    "b2t_connection/b2t_3_3": ({"residual": "b2t"}, "out/", "grad/", "generation"),
    # fixed: without the release's slip in the cross-attention bias of copied layers
    **{
        f"share_layer_params/{release_name}_n6_k2": (
            {
                "residual": "post_ln",
                "layer_sharing": name,
                "encoder_unique_layers": 3,
                "decoder_unique_layers": 3,
            },
            "fixed/",
            "fixed/grad/",
            "generation_fixed",
        )
        for release_name, name in (
            ("sequence", "sequence"),
            ("cycle", "cycle"),
            ("cycle_reverse", "cycle_rev"),
        )
    },
}


def load(name, **flags):
    golden = Golden(name)
    layers = 6 if name.startswith("share") else 3
    model = make_model(task=golden.task, encoder_layers=layers, decoder_layers=layers, **flags)
    state = golden.state()
    for key in [key for key in state if "encoder_attn.q_proj.bias" in key] if layers == 6 else []:
        # undo the slip: a copied layer's cross-attention bias is that of the set's first layer
        depth = int(key.split(".")[2])
        owner = model.decoder.indices.index(model.decoder.indices[depth])
        for part in "qkv":
            bias = f"decoder.layers.{{}}.encoder_attn.{part}_proj.bias"
            state[bias.format(depth)] = state[bias.format(owner)]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert all(key.endswith(("version", "_float_tensor", "output_projection.weight")) for key in missing)
    assert not unexpected
    return golden, model


@pytest.mark.parametrize("name", CONFIGURATIONS)
class TestRelease:
    def test_forward(self, name):
        flags, out, _, _ = CONFIGURATIONS[name]
        golden, model = load(name, **flags)
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

    def test_loss_and_gradients(self, name):
        flags, out, grad, _ = CONFIGURATIONS[name]
        golden, model = load(name, **flags)
        batch = golden.batch()
        model.train()
        loss = release_loss(model(**batch["net_input"])[0], batch["target"])
        assert abs(loss.item() - golden[f"{out}loss"].item()) < 1e-4
        loss.backward()
        expected = golden.state(grad)
        compared = 0
        for key, parameter in model.named_parameters():
            if key in expected:
                assert (parameter.grad - expected[key]).abs().max() < 1e-4, key
                compared += 1
        assert compared == len(list(model.parameters()))

    @pytest.mark.parametrize("beam", [1, 4])
    def test_translations(self, name, beam):
        flags, _, _, generation = CONFIGURATIONS[name]
        golden, model = load(name, **flags)
        model.eval()
        hypotheses = translate(model, golden.dictionary, golden.batch(), beam)
        expected = golden.meta[generation]["greedy" if beam == 1 else "beam4"]
        for ours, theirs in zip(hypotheses, expected, strict=True):
            assert [hypothesis["tokens"].tolist() for hypothesis in ours] == [h["tokens"] for h in theirs]
            for hypothesis, other in zip(ours, theirs, strict=True):
                assert abs(hypothesis["score"].item() - other["score"]) < 1e-5


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_word_dropout(seed, monkeypatch):
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
        for key, parameter in model.named_parameters():
            assert (parameter.grad - expected[key]).abs().max() < 1e-4, key


def test_layer_maps():
    """The index lists are the release's wherever M divides N (elsewhere the release's order has gaps)."""
    maps = json.loads((GOLDEN / "share_layer_params/layer_maps.json").read_text())["owner_layer"]
    compared = 0
    for release_name, name in (("sequence", "sequence"), ("cycle", "cycle"), ("cycle_reverse", "cycle_rev")):
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
    """From the same seed, every tensor has the release's mean, deviation and largest value."""
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

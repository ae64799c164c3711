"""Every scheme with every strategy: trains, is saved and loaded, decodes; initializations, parameters, refusals."""

import pytest
import torch
from checks import PAIRS, SHARED, check_training_and_decoding, deviation, expected_deviations, sharing
from helpers import make_batch, make_model, randomize

from b2t_common.errors import InputError
from b2t_fairseq.residual import SCHEMES


@pytest.mark.parametrize(("scheme", "strategy"), PAIRS)
def test_trains_saves_loads_decodes(tmp_path, scheme, strategy):
    check_training_and_decoding(
        lambda seed: make_model(residual=scheme, seed=seed, **sharing(strategy)), make_batch(), tmp_path
    )


WIDE = {"encoder_embed_dim": 256, "encoder_ffn_embed_dim": 512, "encoder_layers": 4, "decoder_layers": 2}


def test_deepnorm_initialization():
    model = make_model(residual="deepnorm", **WIDE)
    expected_deviations(model.encoder, 0.87 * (4**4 * 2) ** (-1 / 16), uniform=False)
    expected_deviations(model.decoder, (12 * 2) ** (-1 / 4), uniform=False)


def test_t_fixup_initialization():
    model = make_model(residual="t_fixup", **WIDE)
    expected_deviations(model.encoder, 0.67 * 4 ** (-1 / 4), uniform=True)
    expected_deviations(model.decoder, (9 * 2) ** (-1 / 4), uniform=True)
    table = model.encoder.embed_tokens.weight
    assert deviation(table[2:]) == pytest.approx(256**-0.5 * (9 * 2) ** (-1 / 4), rel=0.05)
    assert not table[1].any()


def test_t_fixup_scales_both_embeddings_once():
    plain, scaled = (
        make_model(residual=scheme, share_all_embeddings=False, share_decoder_input_output_embed=True)
        for scheme in ("rezero", "t_fixup")
    )
    for stack in ("encoder", "decoder"):
        before, after = (getattr(model, stack).embed_tokens.weight for model in (plain, scaled))
        assert torch.allclose(after, before * 54**-0.25)


def test_initialization_is_drawn_for_each_set_once():
    """Tying comes after: the sets of a shared model are those of the first layers of one that is not."""
    plain, shared = (make_model(residual="t_fixup", **flags) for flags in ({}, SHARED))
    for layer, other in zip(plain.encoder.layers[:3], shared.encoder.layers, strict=False):
        assert torch.equal(layer.fc1.weight, other.fc1.weight)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_other_schemes_keep_fairseqs_initialization(scheme):
    if SCHEMES[scheme].xavier is None:
        reference = dict(make_model(residual="post_ln").named_parameters())
        for name, parameter in make_model(residual=scheme).named_parameters():
            assert name not in reference or torch.equal(parameter, reference[name]), name


def test_rezero_starts_as_the_identity():
    model = make_model(residual="rezero")
    x = torch.randn(5, 3, 16)
    assert torch.equal(model.encoder.layers[0](x, None), x)


def test_dlcl_starts_as_the_mean():
    model = make_model(residual="dlcl")
    assert [len(module.weights) for module in model.encoder.inputs] == list(range(1, 8))
    for module in model.decoder.inputs:
        assert torch.allclose(module.weights, torch.tensor(1 / len(module.weights)))


def extra_parameters(scheme, **flags):
    """Return how many parameters a scheme has more than Post-LN, for 6-6 layers of width 16."""
    models = [make_model(residual=name, **flags) for name in (scheme, "post_ln")]
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    return counts[0] - counts[1]


NORMS = 2 * 16 * 6 * (2 + 3)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        *(("b2t", 0), ("deepnorm", 0), ("pre_ln", 4 * 16), ("mix_ln", 4 * 16), ("ln_scaling", 4 * 16)),
        *(("admin", 16 * 6 * (2 + 3)), ("t_fixup", -NORMS), ("b2t_no_ln", -NORMS), ("rezero", 12 - NORMS)),
        # a norm and a row of weights for the input of each layer and for the end, and the norm at the end
        ("dlcl", 2 * (7 * 32 + 28 + 32)),
    ],
)
def test_parameters(scheme, expected):
    assert extra_parameters(scheme) == expected


@pytest.mark.parametrize(("scheme", "name"), [("admin", "omega"), ("rezero", "alpha")])
def test_what_belongs_to_a_depth_is_not_shared(scheme, name):
    model = make_model(residual=scheme, **SHARED)
    layers = model.decoder.layers
    assert layers[0].fc1.weight is layers[5].fc1.weight
    assert len({id(getattr(layer.residual, name)) for layer in layers}) == 6
    randomize(model)
    model(**make_batch()["net_input"])[0].sum().backward()
    gradients = [getattr(layer.residual, name).grad for layer in layers]
    assert all(not torch.equal(gradients[0], gradient) for gradient in gradients[1:])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"residual": "dlcl", "encoder_layerdrop": 0.1}, ["--encoder-layerdrop 0.1", "--residual dlcl"]),
        (
            {"residual": "dlcl", "encoder_layers_to_keep": "0,1", "decoder_layers_to_keep": "0,1"},
            ["--encoder-layers-to-keep 0,1", "--residual dlcl"],
        ),
        ({"residual": "mix_ln", "decoder_layers": 3}, ["--decoder-layers 3", "--residual mix_ln", "4"]),
        ({"residual": "t_fixup", "depth_scaled_init": True}, ["--depth-scaled-init", "--residual t_fixup"]),
        ({"residual": "b2t", "admin_profile": "omegas"}, ["--admin-profile omegas", "--residual b2t", "admin"]),
        ({"residual": "rezero", "encoder_normalize_before": True}, ["--encoder-normalize-before", "rezero"]),
        ({"residual": "b2t_no_ln", "no_decoder_final_norm": True}, ["--no-decoder-final-norm", "b2t_no_ln"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_refused(flags, words):
    with pytest.raises(InputError) as error:
        make_model(**flags)
    assert all(word in str(error.value) for word in words), error.value


def test_pruned_layers_keep_the_schemes_of_their_depth():
    kept = {"encoder_layers_to_keep": "0,3,5", "decoder_layers_to_keep": "1,2"}
    for scheme in ("deepnorm", "ln_scaling", "mix_ln", "t_fixup", "b2t_no_ln"):
        whole, pruned = make_model(residual=scheme), make_model(residual=scheme, **kept)
        for stack, depths in (("encoder", (0, 3, 5)), ("decoder", (1, 2))):
            layers = getattr(whole, stack).layers
            for layer, depth in zip(getattr(pruned, stack).layers, depths, strict=True):
                assert layer.residual.position == layers[depth].residual.position

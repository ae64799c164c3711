"""Each initialization gives the standard deviations of its paper, and those that break its conditions are refused."""

import pytest
import torch
from checks import CYCLE_REV, deviation, linear_weights
from helpers import make_model
from language_models import make_lm
from speech import make_speech_model

from b2t_common.errors import InputError
from b2t_fairseq.initialization import INITIALIZATIONS

# The stacks have different widths and depths, so that a test fails where those of one are used for the other.
SIZES = {
    "encoder_embed_dim": 128,
    "encoder_ffn_embed_dim": 256,
    "decoder_embed_dim": 256,
    "decoder_ffn_embed_dim": 128,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "share_all_embeddings": False,
}
STACKS = {"encoder": (128, 2 * 3), "decoder": (256, 3 * 2)}


def assert_small(stack, width, sublayers):
    """Check that weights have the variance 2/(5 width), and at the ends of sub-layers that divided by ``sublayers``."""
    weights = linear_weights(stack)
    assert weights
    for name, weight in weights:
        is_last = any(part in name for part in ("out_proj", "fc2"))
        variance = 2 / (5 * width) / (sublayers if is_last else 1)
        assert deviation(weight) == pytest.approx(variance**0.5, rel=0.03), name
        # Numbers of a normal distribution, unlike those of a uniform one, are often beyond sqrt(3) deviations.
        assert weight.abs().max() > 2.5 * variance**0.5


def test_small_weights_have_the_variance_of_the_width():
    model = make_model(init="small", **SIZES)
    for name, (width, _) in STACKS.items():
        assert_small(getattr(model, name), width, 1)


def test_spike_no_more_divides_the_ends_of_sub_layers():
    model = make_model(init="spike_no_more", **SIZES)
    for name, (width, sublayers) in STACKS.items():
        assert_small(getattr(model, name), width, sublayers)
    lm = make_lm(init="spike_no_more", decoder_embed_dim=256, decoder_ffn_embed_dim=128, decoder_layers=4)
    assert_small(lm.decoder, 256, 2 * 4)


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_embeddings_norms_and_biases_stay_fairseqs(init):
    plain, other = (dict(make_model(init=name).named_parameters()) for name in ("fairseq", init))
    for name, parameter in plain.items():
        if parameter.dim() == 1 or "embed" in name:
            assert torch.equal(parameter, other[name]), name


def test_embeddings_of_spike_no_more_have_the_standard_deviation_one():
    """This is the second condition of the paper."""
    model = make_model(init="spike_no_more", encoder_embed_dim=256)
    embedding = model.encoder.embed_scale * model.encoder.embed_tokens.weight[2:]
    assert deviation(embedding) == pytest.approx(1, rel=0.05)


def test_both_names_of_depth_scaled_initialization_mean_the_same():
    old, new = (
        dict(make_model(**{name: value}).named_parameters())
        for name, value in (("depth_scaled_init", True), ("init", "depth_scaled"))
    )
    assert all(torch.equal(parameter, new[name]) for name, parameter in old.items())


def test_shared_weights_are_drawn_once():
    plain, shared = (make_model(init="spike_no_more", **flags) for flags in ({}, CYCLE_REV))
    for layer, other in zip(plain.encoder.layers[:3], shared.encoder.layers, strict=False):
        assert torch.equal(layer.fc2.weight, other.fc2.weight)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"init": "large"}, ["--init large", *INITIALIZATIONS]),
        ({"init": "small", "depth_scaled_init": True}, ["--depth-scaled-init", "--init small"]),
        ({"init": "spike_no_more", "no_scale_embedding": True}, ["--init spike_no_more", "--no-scale-embedding"]),
        ({"init": "spike_no_more", "encoder_embed_path": "table"}, ["--encoder-embed-path table"]),
        ({"init": "small", "residual": "deepnorm"}, ["--init small", "--residual deepnorm"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_an_initialization_are_refused(flags, words):
    """The message quotes both settings."""
    with pytest.raises(InputError) as error:
        make_model(**flags)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    "flags", [{"layernorm_embedding": True}, {"residual": "peri_ln"}], ids=lambda flags: str(*flags)
)
def test_normalized_embeddings_need_no_scale(flags):
    make_model(init="spike_no_more", no_scale_embedding=True, encoder_layers=1, decoder_layers=1, **flags)


def test_a_speech_encoder_is_warned_of(caplog):
    """Nothing is known of the standard deviation of what convolutions give."""
    make_speech_model(init="spike_no_more")
    assert "--init spike_no_more was derived for embeddings" in caplog.text

"""What layers share: which sub-layers, whether the norms too, and whether with the other stack."""

import pytest
import torch
from checks import check_training_and_decoding
from helpers import make_batch, make_model, model_settings, randomize

from b2t_common.errors import InputError
from b2t_fairseq.counting import count_parameters
from b2t_fairseq.settings.plan import plan_of_checkpoint
from b2t_fairseq.sharing import SHARE_SUBLAYERS, SUBLAYERS, layer_indices

SETS = {"encoder_unique_layers": 3, "decoder_unique_layers": 2}
CYCLE = {"layer_sharing": "cycle", **SETS}
PREFIXES = {"self_attention": "self_attn.", "cross_attention": "encoder_attn.", "feed_forward": "fc"}
NORMS = {
    "self_attention": "self_attn_layer_norm.",
    "cross_attention": "encoder_attn_layer_norm.",
    "feed_forward": "final_layer_norm.",
}
WIDTH, FFN = 16, 32
NORM = 2 * WIDTH
SIZES = {
    "self_attention": 4 * (WIDTH**2 + WIDTH),
    "cross_attention": 4 * (WIDTH**2 + WIDTH),
    "feed_forward": 2 * WIDTH * FFN + WIDTH + FFN,
}


def number_of_parameters(flags, sets, in_common=False):
    """Return the number of parameters by the formula: each shared part once for each set, others for each layer.

    Args:
        flags: what is shared.
        sets: M of encoder and decoder, which have 6 layers.
        in_common: whether the encoder's shared parts are the decoder's.
    """
    total = 24 * WIDTH  # the embedding
    for stack, m in zip(("encoder", "decoder"), sets, strict=True):
        for sublayer in SUBLAYERS if stack == "decoder" else (SUBLAYERS[0], SUBLAYERS[2]):
            shared = sublayer in SHARE_SUBLAYERS[flags.get("share_sublayers", "all")]
            is_encoders = in_common and stack == "decoder" and sublayer != "cross_attention"
            times = 0 if is_encoders else m
            total += SIZES[sublayer] * (times if shared else 6)
            total += NORM * (times if shared and flags.get("share_norms", True) else 6)
    return total


def tied(first, second):
    """Return the names of the parameters that two layers have in common."""
    others = dict(second.named_parameters())
    return {name for name, parameter in first.named_parameters() if parameter is others.get(name)}


def named(layer, sublayers, norms):
    """Return the names of the parameters of some sub-layers of a layer."""
    prefixes = [PREFIXES[s] for s in sublayers] + ([NORMS[s] for s in sublayers] if norms else [])
    return {name for name, _ in layer.named_parameters() if name.startswith(tuple(prefixes))}


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("sublayers", SHARE_SUBLAYERS)
def test_the_named_sub_layers_are_shared_and_nothing_else(sublayers, norms):
    """Tied parameters are the same objects; their numbers follow the formula, in the model and in its checkpoint."""
    flags = {"share_sublayers": sublayers, "share_norms": norms}
    sharing = dict(CYCLE)
    if sublayers == "cross_attention":
        del sharing["encoder_unique_layers"]
    model = make_model(**sharing, **flags)
    for stack, m in ((model.encoder, 3), (model.decoder, 2)):
        layers = list(stack.layers)
        assert tied(layers[0], layers[m]) == named(layers[0], SHARE_SUBLAYERS[sublayers], norms)
        assert not tied(layers[0], layers[1])
    expected = number_of_parameters(flags, (3, 2))
    assert sum(p.numel() for p in model.parameters()) == expected
    plan = plan_of_checkpoint(vars(model_settings(**sharing, **flags)))
    assert count_parameters(plan, model.state_dict()) == expected


@pytest.mark.parametrize(
    ("flags", "sets"),
    [
        ({}, (6, 6)),
        ({"layer_sharing": "cycle_rev", "encoder_unique_layers": 2, "decoder_unique_layers": 2}, (2, 2)),
        ({"layer_sharing": "0,0,1,1,0,0", "share_norms": False}, (2, 2)),
        ({"share_sublayers": "feed_forward"}, (6, 6)),
        ({"share_sublayers": "attention", "layer_sharing": "0,1,2,0,1,2"}, (3, 3)),
    ],
)
def test_encoder_and_decoder_share_layers(flags, sets):
    """Layer i of the encoder is layer i of the decoder, but for the cross-attention."""
    model = make_model(share_encoder_decoder=True, **flags)
    sublayers = [s for s in SHARE_SUBLAYERS[flags.get("share_sublayers", "all")] if s != "cross_attention"]
    for first, second in zip(model.encoder.layers, model.decoder.layers, strict=True):
        assert tied(first, second) == named(first, sublayers, flags.get("share_norms", True))
    expected = number_of_parameters(flags, sets, in_common=True)
    assert sum(p.numel() for p in model.parameters()) == expected
    plan = plan_of_checkpoint(vars(model_settings(share_encoder_decoder=True, **flags)))
    assert count_parameters(plan, model.state_dict()) == expected


@pytest.mark.parametrize(("sublayers", "first"), [("feed_forward", "final"), ("cross_attention", "encoder_attn")])
@pytest.mark.parametrize("residual", ["b2t", "keel", "sandwich_ln", "sub_ln"])
def test_norms_that_a_scheme_adds_belong_to_their_sub_layer(residual, sublayers, first):
    """Each norm of a sub-layer is shared with it; what a scheme keeps for a depth never is."""
    flags = {"residual": residual, "layer_sharing": "none/cycle", "decoder_unique_layers": 3}
    flags["share_sublayers"] = sublayers
    kinds = [flags, {**flags, "share_norms": False}, {"residual": residual, "share_encoder_decoder": True}]
    model, apart, common = models = [make_model(**kind) for kind in kinds]
    number = {"feed_forward": 2, "cross_attention": 1}[sublayers]
    layers = model.decoder.layers
    of_scheme = tuple(f"residual.{norms}.{number}." for norms in ("input_norms", "output_norms"))
    beginnings = (PREFIXES[sublayers], f"{first}_layer_norm.", *of_scheme)
    expected = {name for name, _ in layers[0].named_parameters() if name.startswith(beginnings)}
    assert tied(layers[0], layers[3]) == expected
    assert tied(*(apart.decoder.layers[depth] for depth in (0, 3))) == {n for n in expected if "norm" not in n}
    in_common = tied(common.encoder.layers[1], common.decoder.layers[1])
    assert not [name for name in in_common if name.startswith(("residual.", "encoder_attn"))]
    for built, kind in zip(models, kinds, strict=True):
        plan = plan_of_checkpoint(vars(model_settings(**kind)))
        assert count_parameters(plan, built.state_dict()) == sum(p.numel() for p in built.parameters())


KINDS = [
    {**CYCLE, "share_sublayers": "feed_forward"},
    {"layer_sharing": "0,1,1,1,1,2", "share_sublayers": "attention", "share_norms": False},
    {"layer_sharing": "0,0,0,0,0,0/none", "share_sublayers": "feed_forward"},
    {"layer_sharing": "sandwich", "encoder_unique_layers": 3, "decoder_unique_layers": 4},
    {"share_encoder_decoder": True},
    {"layer_sharing": "0,1,0,1,0,1", "share_encoder_decoder": True, "share_norms": False},
]


@pytest.mark.parametrize("flags", KINDS, ids=str)
def test_every_kind_trains_saves_loads_and_decodes(tmp_path, flags):
    check_training_and_decoding(lambda seed: make_model(seed=seed, **flags), make_batch(), tmp_path)


@pytest.mark.parametrize("flags", KINDS, ids=str)
def test_the_gradient_of_a_shared_parameter_is_the_sum(flags):
    """An untied model with the same numbers has the gradient of each use."""
    shared, free = randomize(make_model(**flags)), make_model()
    names = {name: id(p) for name, p in shared.named_parameters(remove_duplicate=False)}
    free.load_state_dict(dict(shared.state_dict()))  # without the record of the sharing
    for model in (shared, free):
        model(**make_batch()["net_input"])[0].square().mean().backward()
    gradients = {name: p.grad for name, p in free.named_parameters(remove_duplicate=False)}
    assert len(set(names.values())) < len({id(p) for p in free.parameters()})
    for name, parameter in shared.named_parameters():
        uses = [other for other, identity in names.items() if identity == id(parameter)]
        distinct = {id(gradients[use]): gradients[use] for use in uses}.values()
        assert torch.allclose(parameter.grad, sum(distinct), rtol=1e-4, atol=1e-6), name


class TestLists:
    def test_a_list_gives_the_sets(self):
        assert layer_indices("0,1,1,0", 4, None) == [0, 1, 1, 0]
        assert layer_indices("2,0,1,2", 4, None) == [0, 1, 2, 0], "sets are numbered by their first layer"

    def test_each_stack_may_have_its_own(self):
        model = make_model(layer_sharing="0,1,1,0/0,0,1", encoder_layers=4, decoder_layers=3)
        assert (model.encoder.indices, model.decoder.indices) == ([0, 1, 1, 0], [0, 0, 1])
        model = make_model(layer_sharing="none/cycle", decoder_unique_layers=3)
        assert (model.encoder.indices, model.decoder.indices) == ([*range(6)], [0, 1, 2] * 2)

    @pytest.mark.parametrize(
        ("strategy", "indices"),
        [
            ("sequence", "0,0,1,1,2,2"),
            ("cycle", "0,1,2,0,1,2"),
            ("cycle_rev", "0,1,2,2,1,0"),
            ("sandwich", "0,1,1,1,1,2"),
        ],
    )
    def test_the_list_of_a_strategy_is_the_same_model(self, strategy, indices):
        """It has the same initial numbers, and loads the strategy's checkpoint."""
        three = {"encoder_unique_layers": 3, "decoder_unique_layers": 3}
        by_name, by_list = make_model(layer_sharing=strategy, **three), make_model(layer_sharing=indices)
        for (name, ours), (other, theirs) in zip(by_name.named_parameters(), by_list.named_parameters(), strict=True):
            assert name == other
            assert torch.equal(ours, theirs)
        by_list.load_state_dict(randomize(by_name).state_dict())


REFUSED = [
    ({"layer_sharing": "0,2,2,0,0,0"}, ["0,2,2,0,0,0", "set 2", "set 1 is missing"]),
    ({"layer_sharing": "0,1,1,0"}, ["0,1,1,0", "4 layers", "has 6"]),
    ({"layer_sharing": "0,1/0,1", "decoder_layers": 2}, ["encoder: --layer-sharing 0,1 lists", "2 layers", "has 6"]),
    ({"layer_sharing": "0,1,,1"}, ["0,1,,1", "unknown strategy", "sandwich", "0,1,1,0"]),
    ({"layer_sharing": "0,0,0,1,1,1", "encoder_unique_layers": 3}, ["3 unique", "0,0,0,1,1,1", "there are 2"]),
    ({"layer_sharing": "sandwich", "encoder_unique_layers": 2}, ["2 unique", "6 layers", "3, 4, 6"]),
    ({"share_sublayers": "norms"}, ["--share-sublayers norms", *SHARE_SUBLAYERS]),
    ({"share_sublayers": "attention"}, ["--share-sublayers attention", "--layer-sharing none"]),
    ({"share_norms": False}, ["--no-share-norms", "--layer-sharing none"]),
    ({**CYCLE, "share_norms": False, "residual": "rezero"}, ["--no-share-norms", "--residual rezero"]),
    ({**CYCLE, "share_sublayers": "cross_attention"}, ["--encoder-unique-layers 3", "cross_attention"]),
    (
        {"layer_sharing": "0,0,0,0,0,0/none", "share_sublayers": "cross_attention"},
        ["0,0,0,0,0,0/none", "encoder", "cross_attention"],
    ),
    (
        {"share_encoder_decoder": True, "share_sublayers": "cross_attention"},
        ["--share-encoder-decoder", "cross_attention"],
    ),
    ({"share_encoder_decoder": True, "decoder_layers": 3}, ["--encoder-layers is 6", "--decoder-layers is 3"]),
    (
        {"share_encoder_decoder": True, "share_all_embeddings": False, "decoder_embed_dim": 24},
        ["--encoder-embed-dim is 16", "--decoder-embed-dim is 24"],
    ),
    (
        {"share_encoder_decoder": True, "decoder_ffn_embed_dim": 24},
        ["--encoder-ffn-embed-dim is 32", "--decoder-ffn-embed-dim is 24"],
    ),
    (
        {"share_encoder_decoder": True, "decoder_attention_heads": 2},
        ["--encoder-attention-heads is 4", "--decoder-attention-heads is 2"],
    ),
    (
        {"share_encoder_decoder": True, "norm": "power_norm"},
        ["--share-encoder-decoder", "--norm power_norm", "decoder", "--no-share-norms"],
    ),
    ({"share_encoder_decoder": True, **CYCLE}, ["encoder 0 1 2 0 1 2", "decoder 0 1 0 1 0 1"]),
]


@pytest.mark.parametrize(("flags", "quoted"), REFUSED)
def test_what_means_nothing_is_refused(flags, quoted):
    """The message quotes both values."""
    with pytest.raises(InputError) as error:
        make_model(**flags)
    assert all(words in str(error.value) for words in quoted), error.value


OTHER_KINDS = [
    (CYCLE, {**CYCLE, "share_sublayers": "feed_forward"}, ["0 1 2 0 1 2,", "0 1 2 0 1 2 of feed_forward"]),
    ({**CYCLE, "share_sublayers": "feed_forward"}, CYCLE, ["0 1 2 0 1 2 of feed_forward", "uses 0 1 2 0 1 2 ("]),
    (CYCLE, {**CYCLE, "share_norms": False}, ["without norms", "--no-share-norms"]),
    ({**CYCLE, "share_norms": False}, CYCLE, ["without norms", "--layer-sharing cycle --encoder-unique-layers 3"]),
    (CYCLE, {}, ["0 1 2 0 1 2,", "uses 0 1 2 3 4 5 (--layer-sharing none)"]),
    ({}, {"share_encoder_decoder": True}, ["with the other stack", "--share-encoder-decoder"]),
    ({"share_encoder_decoder": True}, {}, ["in common with the other stack", "--layer-sharing none", "b2t grow"]),
]


@pytest.mark.parametrize(("saved", "built", "words"), OTHER_KINDS)
def test_a_checkpoint_of_another_kind_is_refused(saved, built, words):
    """The message names both kinds."""
    state = randomize(make_model(**saved)).state_dict()
    with pytest.raises(InputError) as error:
        make_model(**built).load_state_dict(state)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("saved", [{}, {**CYCLE, "share_sublayers": "feed_forward"}])
@pytest.mark.parametrize("built", [CYCLE, {"share_encoder_decoder": True}])
def test_values_that_would_be_lost_are_refused_without_a_record_too(saved, built):
    """A checkpoint of version 0.1.0 or of fairseq does not say how its layers share."""
    state = dict(randomize(make_model(**saved)).state_dict())
    model = randomize(make_model(**built), seed=7)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match="give the flags that the checkpoint was trained with"):
        model.load_state_dict(state)
    if "share_encoder_decoder" in built:
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("flags", [{**CYCLE, "share_norms": False}, {"share_encoder_decoder": True}])
def test_a_pruned_model_loads_the_layers_that_it_keeps(flags):
    kept = {"encoder_layers_to_keep": "0,3,5", "decoder_layers_to_keep": "1,3"}
    whole, pruned = randomize(make_model(**flags)), make_model(**flags, **kept)
    settings = model_settings(**flags, **kept)
    pruned.load_state_dict(whole.state_dict(), model_cfg=settings)
    make_model(**flags, **kept).load_state_dict(pruned.state_dict(), model_cfg=settings)
    for stack, depths in (("encoder", (0, 3, 5)), ("decoder", (1, 3))):
        for layer, depth in zip(getattr(pruned, stack).layers, depths, strict=True):
            assert torch.equal(layer.fc1.weight, getattr(whole, stack).layers[depth].fc1.weight)
    in_common = pruned.encoder.layers[1].fc1.weight is pruned.decoder.layers[1].fc1.weight
    assert in_common == ("share_encoder_decoder" in flags)

"""Each residual scheme trains with every strategy, and has the initialization and the parameters of its paper."""

import math

import pytest
import torch
from checks import CYCLE_REV, SOME_PAIRS, assert_xavier, check_training_and_decoding, deviation, sharing
from helpers import make_batch, make_model, randomize

from b2t_common.errors import InputError
from b2t_fairseq.residual import SCHEMES


@pytest.mark.parametrize(("scheme", "strategy"), SOME_PAIRS)
def test_every_scheme_trains_saves_loads_and_decodes_with_and_without_sharing(tmp_path, scheme, strategy):
    check_training_and_decoding(
        lambda seed: make_model(residual=scheme, seed=seed, **sharing(strategy)), make_batch(), tmp_path
    )


WIDE = {"encoder_embed_dim": 256, "encoder_ffn_embed_dim": 512, "encoder_layers": 4, "decoder_layers": 2}


def test_deepnorm_initialization():
    """DeepNorm multiplies Xavier's normal deviations by 0.87 (N^4 M)^(-1/16) and by (12 M)^(-1/4)."""
    model = make_model(residual="deepnorm", **WIDE)
    assert_xavier(model.encoder, 0.87 * (4**4 * 2) ** (-1 / 16), uniform=False)
    assert_xavier(model.decoder, (12 * 2) ** (-1 / 4), uniform=False)


def test_t_fixup_initialization():
    """T-Fixup multiplies Xavier's uniform numbers by 0.67 N^(-1/4) and by (9 M)^(-1/4), and scales the embeddings."""
    model = make_model(residual="t_fixup", **WIDE)
    assert_xavier(model.encoder, 0.67 * 4 ** (-1 / 4), uniform=True)
    assert_xavier(model.decoder, (9 * 2) ** (-1 / 4), uniform=True)
    table = model.encoder.embed_tokens.weight
    assert deviation(table[2:]) == pytest.approx(256**-0.5 * (9 * 2) ** (-1 / 4), rel=0.05)
    assert not table[1].any()


def test_sub_ln_initialization():
    """Sub-LN multiplies Xavier's normal deviations by sqrt(log(3 M) log(2 N) / 3) and by sqrt(log(3 M))."""
    model = make_model(residual="sub_ln", **WIDE)
    assert_xavier(model.encoder, (math.log(3 * 2) * math.log(2 * 4) / 3) ** 0.5, uniform=False)
    assert_xavier(model.decoder, math.log(3 * 2) ** 0.5, uniform=False)


def test_t_fixup_scales_both_embeddings_once():
    plain, scaled = (
        make_model(residual=scheme, share_all_embeddings=False, share_decoder_input_output_embed=True)
        for scheme in ("rezero", "t_fixup")
    )
    for stack in ("encoder", "decoder"):
        before, after = (getattr(model, stack).embed_tokens.weight for model in (plain, scaled))
        assert torch.allclose(after, before * 54**-0.25)


def test_initialization_is_drawn_for_each_set_once():
    """The parameter sets of a shared model have the numbers of the first layers of a model without sharing."""
    plain, shared = (make_model(residual="t_fixup", **flags) for flags in ({}, CYCLE_REV))
    for layer, other in zip(plain.encoder.layers[:3], shared.encoder.layers, strict=False):
        assert torch.equal(layer.fc1.weight, other.fc1.weight)


REINITIALIZED = {"deepnorm", "t_fixup", "sub_ln"}


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - REINITIALIZED))
def test_other_schemes_keep_fairseqs_initialization(scheme):
    reference = dict(make_model(residual="post_ln").named_parameters())
    for name, parameter in make_model(residual=scheme).named_parameters():
        assert name not in reference or torch.equal(parameter, reference[name]), name


def test_rezero_starts_as_the_identity():
    model = make_model(residual="rezero")
    x = torch.randn(5, 3, 16)
    assert torch.equal(model.encoder.layers[0](x, None), x)


def test_dlcl_starts_as_the_mean():
    """Each layer's input is at first the mean of the embedding and of the outputs of all layers below."""
    model = make_model(residual="dlcl")
    assert [len(module.weights) for module in model.encoder.inputs] == list(range(1, 8))
    for module in model.decoder.inputs:
        assert torch.allclose(module.weights, torch.tensor(1 / len(module.weights)))


def extra_parameters(scheme, **flags):
    """Return how many more parameters than Post-LN a scheme has, with 6 layers of width 16 in each stack."""
    models = [make_model(residual=name, **flags) for name in (scheme, "post_ln")]
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    return counts[0] - counts[1]


SUBLAYERS = 6 * (2 + 3)
NORMS = 2 * 16 * SUBLAYERS
EXTRA_PARAMETERS = {
    "post_ln": 0,
    "pre_ln": 4 * 16,
    "b2t": 0,
    "admin": 16 * SUBLAYERS,
    "deepnorm": 0,
    "t_fixup": -NORMS,
    "b2t_no_ln": -NORMS,
    "rezero": 12 - NORMS,
    "span_norm": 0,
    "branch_norm": 0,
    "resi_dual": 4 * 16,
    "keel": NORMS,
    "sandwich_ln": NORMS + 4 * 16,
    "peri_ln": NORMS + 8 * 16,
    # Two more norms in each layer: of self-attention, 16 wide, and of the feed-forward sub-layer, 32 wide.
    "sub_ln": 4 * 16 + 12 * 2 * (16 + 32),
    "mix_ln": 4 * 16,
    "ln_scaling": 4 * 16,
    # Each stack has a norm and a row of weights for each layer's input and for its output, and a norm at its end.
    "dlcl": 2 * (7 * 32 + 28 + 32),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_number_of_parameters(scheme):
    """Every scheme has exactly the parameters that its paper describes."""
    assert extra_parameters(scheme) == EXTRA_PARAMETERS[scheme]


@pytest.mark.parametrize(("scheme", "name"), [("admin", "omega"), ("rezero", "alpha")])
def test_parameters_of_a_depth_are_not_shared(scheme, name):
    """Layers with shared parameters have scheme parameters of their own, each with its own gradient."""
    model = make_model(residual=scheme, **CYCLE_REV)
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
        ({"residual": "resi_dual", "no_decoder_final_norm": True}, ["--no-decoder-final-norm", "resi_dual"]),
        ({"residual": "keel", "no_decoder_final_norm": True}, ["--no-decoder-final-norm", "keel"]),
        ({"residual": "span_norm", "decoder_normalize_before": True}, ["--decoder-normalize-before", "span_norm"]),
        ({"residual": "peri_ln", "layernorm_embedding": True}, ["--layernorm-embedding", "peri_ln"]),
        ({"residual": "b2t", "branch_norm_updates": 0}, ["--branch-norm-updates 0", "b2t", "branch_norm"]),
        ({"residual": "branch_norm", "branch_norm_updates": 0}, ["--branch-norm-updates 0", "4000"]),
        ({"residual": "sub_ln", "init": "small"}, ["--init small", "--residual sub_ln"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_a_scheme_are_refused(flags, words):
    """The message quotes both settings."""
    with pytest.raises(InputError) as error:
        make_model(**flags)
    assert all(word in str(error.value) for word in words), error.value


def test_pruned_layers_keep_the_position_that_they_had():
    """A layer that is kept by --encoder-layers-to-keep computes what it computed in the whole model."""
    kept = {"encoder_layers_to_keep": "0,3,5", "decoder_layers_to_keep": "1,2"}
    for scheme in ("deepnorm", "ln_scaling", "mix_ln", "keel", "t_fixup", "b2t_no_ln"):
        whole, pruned = make_model(residual=scheme), make_model(residual=scheme, **kept)
        for stack, depths in (("encoder", (0, 3, 5)), ("decoder", (1, 2))):
            layers = getattr(whole, stack).layers
            for layer, depth in zip(getattr(pruned, stack).layers, depths, strict=True):
                assert layer.residual.position == layers[depth].residual.position


class TestResiDual:
    def test_starts_with_two_equal_streams_and_ends_with_their_sum(self):
        """Without any layer the output is the embedding and its norm."""
        stack = make_model(residual="resi_dual", encoder_layers=1).encoder
        x = torch.randn(5, 3, 16)
        assert torch.equal(stack.run_layers(x, lambda depth, layer, x: x), x + stack.layer_norm(x))

    def test_hidden_states_are_those_that_sub_layers_read(self):
        model = randomize(make_model(residual="resi_dual")).eval()
        net_input = make_batch()["net_input"]
        _, extra = model(**net_input)
        encoded = model.encoder(net_input["src_tokens"], net_input["src_lengths"], return_all_hiddens=True)
        for name, states in (("encoder", encoded["encoder_states"]), ("decoder", extra["inner_states"])):
            assert len(states) == 7
            norm = getattr(model, name).layers[-1].final_layer_norm
            normalized = (states[-1] - norm.bias) / norm.weight  # (seq_len, batch, embed_dim)
            assert torch.allclose(normalized.mean(dim=-1), torch.tensor(0.0), atol=1e-4)
            assert torch.allclose(normalized.var(dim=-1, unbiased=False), torch.tensor(1.0), atol=1e-2)

    @pytest.mark.parametrize("wrapping", ["checkpoint_activations", "offload_activations"])
    def test_wrapped_layers_pass_on_the_gradients_of_both_streams(self, wrapping):
        results = []
        for on in (False, True):
            model = randomize(make_model(residual="resi_dual", **{wrapping: on}))
            model(**make_batch()["net_input"])[0].square().sum().backward()
            results.append([parameter.grad for parameter in model.parameters()])
        assert all(torch.equal(*gradients) for gradients in zip(*results, strict=True))

    def test_a_dropped_layer_changes_neither_stream(self):
        """With LayerDrop that leaves out every layer the output is that of no layer."""
        stack = make_model(residual="resi_dual", encoder_layerdrop=0.999).encoder.train()
        torch.manual_seed(0)
        x = torch.randn(5, 3, 16)
        assert torch.equal(stack.run_layers(x, lambda depth, layer, x: layer(x, None)), x + stack.layer_norm(x))


class TestBranchNorm:
    def update_of(self, model):
        """Return the update that the layers are in, which is one number."""
        (update,) = {layer.residual.update.item() for layer in (*model.encoder.layers, *model.decoder.layers)}
        return update

    def test_weight_grows_to_one_in_the_given_updates(self):
        model = make_model(residual="branch_norm", branch_norm_updates=8)
        scheme = model.decoder.layers[3].residual
        for made, weight in ((0, 1 / 8), (1, 2 / 8), (5, 6 / 8), (7, 1), (100_000, 1)):
            model.set_num_updates(made)
            assert scheme.weight().item() == weight

    def test_no_number_is_read_from_the_device(self):
        """On a GPU that would make the host wait; a tensor on the meta device has no number."""
        with torch.device("meta"):
            model = make_model(residual="branch_norm").train()
            model.set_num_updates(5)
            assert model.encoder.layers[0](torch.ones(5, 3, 16), None).shape == (5, 3, 16)

    def test_in_evaluation_it_is_post_ln(self):
        branch_norm, post_ln = (randomize(make_model(residual=name)) for name in ("branch_norm", "post_ln"))
        net_input = make_batch()["net_input"]
        assert torch.equal(branch_norm.eval()(**net_input)[0], post_ln.eval()(**net_input)[0])
        assert not torch.equal(branch_norm.train()(**net_input)[0], post_ln.train()(**net_input)[0])

    def test_update_is_stored_and_never_falls(self):
        """So a trained model keeps its sub-layers when it is fine-tuned, where fairseq counts updates from 0."""
        trained, other = (make_model(residual="branch_norm") for _ in range(2))
        trained.set_num_updates(2999)
        other.load_state_dict(trained.state_dict())
        other.set_num_updates(0)
        assert self.update_of(other) == 3000
        other.set_num_updates(3000)
        assert self.update_of(other) == 3001

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_keeps_the_number_of_the_update(self, dtype):
        model = make_model(residual="branch_norm").to(dtype)
        model.set_num_updates(100_000)
        assert self.update_of(model) == 100_001
        assert model.train().encoder.layers[0](torch.ones(3, 2, 16, dtype=dtype), None).dtype == dtype


class TestInnerNorms:
    @pytest.mark.parametrize(
        ("scheme", "norm"), [("keel", "residual.input_norms.1"), ("sub_ln", "self_attn.out_proj.norm")]
    )
    def test_are_shared_as_other_norms_are(self, scheme, norm):
        """Layers that use one parameter set use its norms too."""
        layers = make_model(residual=scheme, **CYCLE_REV).decoder.layers
        first, second, last = (layers[depth].get_submodule(norm).weight for depth in (0, 1, 5))
        assert first is last is not second

    def test_quantization_noise_reaches_maps_with_a_norm(self):
        """--quant-noise-pq drops blocks of every weight in training, also of those that have a norm before them."""
        model = make_model(residual="sub_ln", quant_noise_pq=0.5, quant_noise_pq_block_size=4).train()
        layer = model.encoder.layers[0]
        before = layer.fc2.weight.clone()
        layer(torch.randn(5, 3, 16), None)
        assert before.all()
        assert not layer.fc2.weight.all()

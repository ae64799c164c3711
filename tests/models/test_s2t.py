"""Speech to text: models equal their equations, and fairseq's own model bit by bit."""

import pytest
import torch
from checks import SOME_PAIRS, check_training_and_decoding, randomized_pair, sharing
from equations import LAYERS, run_stack
from helpers import randomize, step_by_step_logits
from speech import make_speech_batch, make_speech_model

from b2t_common.errors import InputError
from b2t_fairseq import admin_profile
from b2t_fairseq.residual import SCHEMES


@pytest.mark.parametrize(("scheme", "strategy"), SOME_PAIRS)
def test_every_scheme_trains_saves_loads_and_decodes_with_and_without_sharing(tmp_path, scheme, strategy):
    flags = {"encoder_layers": 4, "decoder_layers": 4, **sharing(strategy)}
    if strategy != "none":
        flags |= {"encoder_unique_layers": 2, "decoder_unique_layers": 2}
    check_training_and_decoding(
        lambda seed: make_speech_model(residual=scheme, seed=seed, **flags), make_speech_batch(), tmp_path
    )


@pytest.mark.parametrize("strategy", ["none", "cycle_rev"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_model_equals_its_equations(scheme, strategy):
    """The logits of each utterance are those of the equations, from the convolutions' output on, in float64."""
    depths = {f"{stack}_layers": layers for stack, layers in LAYERS.items()}
    flags = {**sharing(strategy), **({"decoder_unique_layers": 2} if strategy != "none" else {})}
    model = randomize(make_speech_model(residual=scheme, **depths, **flags)).double().eval()
    net_input = make_speech_batch()["net_input"]
    net_input["src_tokens"] = net_input["src_tokens"].double()
    with torch.no_grad():
        logits, _ = model(**net_input)
        convolved, lengths = model.encoder.subsample(net_input["src_tokens"], net_input["src_lengths"])
        for utterance, length in enumerate(lengths):
            # fairseq counts positions from 2.
            x = 4 * convolved[:length, utterance] + model.encoder.embed_positions.weights.double()[2 : 2 + length]
            target = net_input["prev_output_tokens"][utterance]
            target = target[target != 1]
            words = model.decoder.embed_tokens.weight[target]
            positions = model.decoder.embed_positions.weights.double()[2 : 2 + len(target)]
            x = run_stack(scheme, model.decoder, 4 * words + positions, run_stack(scheme, model.encoder, x))
            expected = model.decoder.output_projection(x)
            difference = (expected - logits[utterance, : len(target)]).abs().max()
            assert difference < 1e-6 * logits.abs().max().clamp(min=1)


FLAGS = [
    {},
    {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3},
    {"conv_version": "convtransformer", "conv_out_channels": 4, "conv_channels": 1024},
    {"conv_kernel_sizes": "3,3,3", "no_scale_embedding": True, "activation_fn": "gelu"},
    {"share_decoder_input_output_embed": True, "layernorm_embedding": True},
    {"decoder_embed_dim": 24, "decoder_ffn_embed_dim": 48},
    {"encoder_freezing_updates": 1},
    {"ctc_weight": 0.3},
]


def pair_of_models(scheme, **flags):
    """Return fairseq's model and ours, with the same random numbers in every parameter."""
    pre_ln = scheme == "pre_ln"
    flags = {"encoder_layers": 3, "decoder_layers": 2, **flags}
    stock = make_speech_model(
        "s2t_transformer", encoder_normalize_before=pre_ln, decoder_normalize_before=pre_ln, **flags
    )
    ours = make_speech_model(residual=scheme, kernels="fairseq", **flags)
    return randomized_pair(stock, ours)


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: " ".join(flags) or "default")
@pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
def test_equals_fairseqs_speech_model(scheme, flags):
    """Training, evaluation, decoding, the encoder's states, CTC and a frozen encoder are the same bits."""
    results = []
    for model in pair_of_models(scheme, **flags):
        batch = make_speech_batch()
        model.train()
        torch.manual_seed(5)
        logits, extra = model(**batch["net_input"])
        ctc = model.get_ctc_output((logits, extra), batch) if model.encoder.ctc_proj is not None else []
        (logits.square().sum() + sum(part.sum() for part in ctc)).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        model.eval()
        with torch.no_grad():
            encoded = model.encoder.forward(*list(batch["net_input"].values())[:2], return_all_hiddens=True)
            full, steps = model(**batch["net_input"])[0], step_by_step_logits(model, batch)
            unpadded = make_speech_batch(padding=False)["net_input"]
            assert model.encoder(unpadded["src_tokens"], unpadded["src_lengths"])["encoder_padding_mask"] == []
            unpadded, _ = model(**unpadded)
        frozen = all(gradient is None for gradient in gradients[: len(list(model.encoder.parameters()))])
        assert frozen == ("encoder_freezing_updates" in flags)
        results.append([logits, *ctc, *gradients, *encoded["encoder_states"], *encoded["encoder_padding_mask"]])
        results[-1] += [*encoded["encoder_out"], full, steps, unpadded]
    assert len(results[0]) == len(results[1])
    for stock, ours in zip(*results, strict=True):
        assert ours is None if stock is None else torch.equal(stock, ours)


@pytest.mark.parametrize("automatic", [True, False], ids=["amp", "bf16"])
@pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
def test_equals_fairseqs_speech_model_in_half_precision(scheme, automatic):
    results = []
    for model in pair_of_models(scheme):
        net_input = make_speech_batch()["net_input"]
        if not automatic:
            model.bfloat16()
            net_input["src_tokens"] = net_input["src_tokens"].bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=automatic):
            encoded = model.encoder.forward(*list(net_input.values())[:2], return_all_hiddens=True)
            logits, _ = model(**net_input)
        results.append([*encoded["encoder_states"], *encoded["encoder_out"], logits])
    for stock, ours in zip(*results, strict=True):
        assert stock.dtype == ours.dtype
        assert torch.equal(stock, ours)


def test_parameters_of_fairseqs_speech_model_load():
    """They are those of Pre-LN; as another scheme or with shared layers they are refused."""
    stock = randomize(make_speech_model("s2t_transformer"))
    ours = make_speech_model(residual="pre_ln", kernels="fairseq", seed=2)
    ours.load_state_dict(stock.state_dict())
    net_input = make_speech_batch()["net_input"]
    assert torch.equal(stock.eval()(**net_input)[0], ours.eval()(**net_input)[0])
    with pytest.raises(InputError, match="encoder was trained with --residual pre_ln"):
        make_speech_model(residual="b2t").load_state_dict(ours.state_dict())
    shared = make_speech_model(residual="pre_ln", **sharing("cycle"))
    with pytest.raises(InputError, match=r"encoder layers use the parameter sets 0 1 2 3 4 5.*decoder layers"):
        shared.load_state_dict(ours.state_dict())


def test_recomputed_activations_change_nothing():
    """With --checkpoint-activations loss and gradients stay the same, for tied layers too."""
    results = []
    for recompute in (False, True):
        model = make_speech_model(checkpoint_activations=recompute, dropout=0.3, **sharing("cycle_rev"))
        torch.manual_seed(5)
        loss = model(**make_speech_batch()["net_input"])[0].square().sum()
        loss.backward()
        results.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_initializations_reach_both_stacks():
    """T-Fixup and --depth-scaled-init scale the layers of encoder and decoder, and not the convolutions."""
    plain, fixed = make_speech_model(residual="post_ln"), make_speech_model(residual="t_fixup")
    assert torch.equal(fixed.decoder.embed_tokens.weight, plain.decoder.embed_tokens.weight * 54**-0.25)
    assert torch.equal(fixed.encoder.subsample.conv_layers[0].weight, plain.encoder.subsample.conv_layers[0].weight)
    bound = 0.67 * 6**-0.25 * (6 / (16 + 32)) ** 0.5  # Xavier's largest number, times T-Fixup's gain
    largest = fixed.encoder.layers[0].fc1.weight.abs().max().item()
    assert 0.9 * bound < largest <= bound
    scaled = make_speech_model(residual="post_ln", depth_scaled_init=True)
    for stack in ("encoder", "decoder"):
        for ours, theirs in zip(getattr(scaled, stack).layers, getattr(plain, stack).layers, strict=True):
            assert torch.equal(ours.self_attn.q_proj.weight, theirs.self_attn.q_proj.weight * 6**-0.5)


def test_admins_profile_is_measured_in_both_stacks():
    model = make_speech_model(residual="admin", **sharing("cycle")).train()
    admin_profile.measure(model, make_speech_batch()["net_input"])
    assert admin_profile.is_profiled(model)
    for stack in (model.encoder, model.decoder):
        omegas = torch.stack([omega[0] for layer in stack.layers for omega in layer.residual.omega])
        assert omegas[0] == 1
        # The sum in the stack grows with depth; the output of the convolutions is small.
        assert (omegas[1:].diff() > 0).all()


def test_word_dropout_acts_on_the_decoder_only():
    model = make_speech_model(decoder_word_dropout=0.9).train()
    batch = make_speech_batch()["net_input"]
    assert torch.equal(*(model.encoder(batch["src_tokens"], batch["src_lengths"])["encoder_out"][0] for _ in range(2)))
    assert not torch.equal(*(model(**batch)[0] for _ in range(2)))

"""Each scheme equals its equation written out; Post-LN and Pre-LN equal fairseq's own model bit by bit."""

import pytest
import torch
from checks import SOME_PAIRS, assert_same_results, randomized_pair
from equations import LAYERS, UPDATE, translation_logits
from exactly import assert_equal_in_float64, softmaxes_in_float64
from golden import translate
from helpers import make_batch, make_model, randomize, step_by_step_logits

from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.sharing import NO_SHARING, OF_THE_PAPER

SETS = {"encoder_unique_layers": 3, "decoder_unique_layers": 2}
STRATEGIES = [NO_SHARING, *OF_THE_PAPER]
SHARING = [{"layer_sharing": name, **({} if name == NO_SHARING else SETS)} for name in STRATEGIES]
SOME_MODELS = [{"residual": scheme, **SHARING[list(STRATEGIES).index(strategy)]} for scheme, strategy in SOME_PAIRS]
some_models = pytest.mark.parametrize("flags", SOME_MODELS, ids=["-".join(pair) for pair in SOME_PAIRS])


DEPTHS = {f"{stack}_layers": layers for stack, layers in LAYERS.items()}


def sentences(batch):
    """Return the tokens that encoder and decoder read of each sentence, without padding."""
    tokens, prev = batch["net_input"]["src_tokens"], batch["net_input"]["prev_output_tokens"]
    return [(source[source != 1], target[target != 1]) for source, target in zip(tokens, prev, strict=True)]


@pytest.mark.parametrize("sharing", SHARING, ids=STRATEGIES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_model_equals_its_equations(scheme, sharing):
    """The logits of each sentence are those of the equations, from the embedding on, in float64."""
    model = randomize(make_model(residual=scheme, **DEPTHS, **sharing)).double().eval()
    batch = make_batch()
    with torch.no_grad():
        logits, _ = model(**batch["net_input"])
        for own, (source, target) in zip(logits, sentences(batch), strict=True):
            expected = translation_logits(scheme, model, source, target)
            # Even in a float64 model, fairseq computes the softmax of the cross-attention in float32.
            assert (expected - own[: len(target)]).abs().max() < 1e-6 * logits.abs().max().clamp(min=1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradients_of_training_are_those_of_the_equations(scheme):
    """Those of every parameter, in float64, in an update of training, with shared layers."""
    model = randomize(make_model(residual=scheme, **DEPTHS, **SHARING[-1])).double().train()
    model.set_num_updates(UPDATE - 1)
    batch = make_batch()
    logits, _ = model(**batch["net_input"])
    expected = torch.cat([translation_logits(scheme, model, *sentence) for sentence in sentences(batch)])
    own = torch.cat([rows[: len(target)] for rows, (_, target) in zip(logits, sentences(batch), strict=True)])
    assert torch.allclose(own, expected, rtol=1e-9, atol=1e-9)
    parameters = dict(model.named_parameters())
    gradients = [torch.autograd.grad(x.square().sum(), list(parameters.values())) for x in (own, expected)]
    scale = max(gradient.abs().max() for gradient in gradients[1])
    for name, gradient, other in zip(parameters, *gradients, strict=True):
        assert (gradient - other).abs().max() < 1e-9 * scale, name


STOCK_FLAGS = [
    {},
    {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1},
    {"encoder_learned_pos": True, "decoder_learned_pos": True, "layernorm_embedding": True},
    {"activation_fn": "gelu", "no_scale_embedding": True, "no_token_positional_embeddings": True},
    {"share_all_embeddings": False, "decoder_embed_dim": 24, "decoder_ffn_embed_dim": 48},
    {"share_all_embeddings": False, "decoder_output_dim": 8},
    {"share_all_embeddings": False, "share_decoder_input_output_embed": True},
    {"share_all_embeddings": False, "merge_src_tgt_embed": True},
    {"encoder_layerdrop": 0.3, "decoder_layerdrop": 0.3, "dropout": 0.1},
    {"cross_self_attention": True},
    {"cross_self_attention": True, "no_cross_attention": True},
    {"checkpoint_activations": True, "dropout": 0.1},
    {"offload_activations": True, "dropout": 0.1},
    {"quant_noise_pq": 0.1, "quant_noise_pq_block_size": 4},
    {"adaptive_softmax_cutoff": [8, 16], "adaptive_softmax_dropout": 0.1, "share_all_embeddings": False},
    {"encoder_layers": 2, "decoder_layers": 4},
    {"decoder_attention_heads": 2, "encoder_attention_heads": 8},
]


def pair_of_models(scheme, **flags):
    """Return fairseq's transformer and ours, with the same random numbers in every parameter."""
    pre_ln = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    stock = make_model("transformer", **(pre_ln if scheme == "pre_ln" else {}), **flags)
    return randomized_pair(stock, make_model("b2t_transformer", residual=scheme, kernels="fairseq", **flags))


@pytest.mark.parametrize("flags", STOCK_FLAGS, ids=lambda flags: " ".join(flags) or "default")
@pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
def test_equals_fairseqs_transformer(scheme, flags):
    """Post-LN and Pre-LN with ``--kernels fairseq`` give the bits of fairseq's own model, whatever its flags."""
    assert_same_results(*pair_of_models(scheme, **flags), make_batch(), "checkpoint_activations" not in flags)


@pytest.mark.parametrize("sharing", [SHARING[0], SHARING[-1]], ids=["none", "shared"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_recomputed_activations_change_nothing(scheme, sharing):
    """With --checkpoint-activations dropout masks, loss and gradients stay the same, for tied layers too."""
    results = []
    for recompute in (False, True):
        model = randomize(make_model(residual=scheme, checkpoint_activations=recompute, dropout=0.3, **sharing))
        torch.manual_seed(5)
        loss = model(**make_batch()["net_input"])[0].square().sum()
        loss.backward()
        results.append((loss, [parameter.grad for parameter in model.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    for kept, recomputed in zip(results[0][1], results[1][1], strict=True):
        assert torch.equal(kept, recomputed)


@pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_layers_equal_fairseqs_layers(scheme, mode):
    """A single layer gives the output and the attention weights of fairseq's layer, with each kind of mask."""
    stock, ours = pair_of_models(scheme, dropout=0.1)
    for model in (stock, ours):
        model.train(mode == "train")
    x, source = torch.randn(7, 3, 16), torch.randn(5, 3, 16)
    padding = torch.tensor([[False] * 7, [False] * 5 + [True] * 2, [False] * 3 + [True] * 4])
    future = torch.full((7, 7), float("-inf")).triu(1)
    outputs = []
    for model in (stock, ours):
        torch.manual_seed(3)
        encoded = [
            model.encoder.layers[0](x, encoder_padding_mask=mask, attn_mask=attn_mask)
            for mask in (None, padding)
            for attn_mask in (None, torch.ones(7, 7).triu(2))
        ]
        decoded = model.decoder.layers[0](
            x, source, padding[:, :5], self_attn_mask=future, self_attn_padding_mask=padding, need_attn=True
        )
        per_head = model.decoder.layers[0](x, source, self_attn_mask=future, need_head_weights=True)
        outputs.append([*encoded, *decoded[:2], *per_head[:2]])
    for stock_output, output in zip(*outputs, strict=True):
        assert torch.equal(stock_output, output)


def test_attention_of_an_alignment_layer_and_some_heads_equals_fairseqs():
    stock, ours = pair_of_models("post_ln")
    batch = make_batch()
    for training in (False, True):
        attention_weights = []
        for model in (stock, ours):
            model.train(training)
            _, extra = model(**batch["net_input"], alignment_layer=2, alignment_heads=2)
            attention_weights.append(extra["attn"][0])
        assert torch.equal(*attention_weights)


@some_models
def test_step_by_step_equals_full_forward(flags):
    """Decoding one token at a time, with cached keys and values, gives the logits of one pass over all tokens."""
    model = randomize(make_model(**flags)).eval()
    for padding in (True, False):
        batch = make_batch(padding=padding)
        with torch.no_grad():
            full, _ = model(**batch["net_input"])
            steps = step_by_step_logits(model, batch)
        real = batch["target"] != 1
        assert (full - steps)[real].abs().max() < 2e-5 * full.abs().max()


@some_models
def test_beam_search_scores_equal_teacher_forcing(flags):
    """The score that beam search gives to a translation is the score of one full forward pass over it."""
    model = make_model(seed=3, **flags).double().eval()
    batch, dictionary = make_batch(), model.decoder.dictionary
    with softmaxes_in_float64(), torch.no_grad():
        for sentence, hypotheses in enumerate(translate(model, dictionary, batch, beam=4)):
            tokens = batch["net_input"]["src_tokens"][sentence : sentence + 1]
            for hypothesis in hypotheses:
                target = hypothesis["tokens"].unsqueeze(0)
                prev = torch.cat([torch.tensor([[2]]), target[:, :-1]], dim=1)
                log_probs = torch.log_softmax(model(tokens, None, prev)[0], dim=-1)
                expected = log_probs.gather(-1, target.unsqueeze(-1)).flatten()
                assert_equal_in_float64(hypothesis["positional_scores"], expected)


def test_every_two_schemes_compute_different_logits():
    batch = make_batch()
    # In training, because in evaluation BranchNorm is Post-LN.
    outputs = [randomize(make_model(residual=scheme)).train()(**batch["net_input"])[0] for scheme in SCHEMES]
    for first in range(len(outputs)):
        for second in range(first):
            assert (outputs[first] - outputs[second]).abs().max() > 0.1

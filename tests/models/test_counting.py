"""The counts are exact: FLOPs as PyTorch counts them in a real model, parameters as the model has them."""

import argparse

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY
from helpers import SMALL, make_model, make_task
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from b2t_common.errors import InputError
from b2t_fairseq.counting import count_parameters, decoder_flops, encoder_flops, forward_flops, training_flops
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.settings.plan import plan_of_checkpoint, plan_translation

BATCH, SRC_LEN, TGT_LEN = 3, 5, 7
SHARED = {"encoder_unique_layers": 3, "decoder_unique_layers": 2}
MODELS = {
    **{residual: {"residual": residual} for residual in ("post_ln", "pre_ln", "b2t")},
    **{strategy: {"layer_sharing": strategy, **SHARED} for strategy in ("sequence", "cycle", "cycle_rev")},
    "one-set": {"layer_sharing": "sequence", "encoder_unique_layers": 1, "decoder_unique_layers": 1},
    "deep-encoder": {"encoder_layers": 9, "decoder_layers": 1},
    "other-sizes": {
        **{"share_all_embeddings": False, "encoder_embed_dim": 24, "encoder_ffn_embed_dim": 40},
        **{"decoder_embed_dim": 16, "decoder_ffn_embed_dim": 56, "decoder_attention_heads": 2},
    },
    "output-dim": {"share_all_embeddings": False, "decoder_output_dim": 12},
    "no-cross-attention": {"no_cross_attention": True},
    "cross-self-attention": {"no_cross_attention": True, "cross_self_attention": True},
    "pruned": {"encoder_layers_to_keep": "0,2,5", "decoder_layers_to_keep": "1,3"},
}


VOCABULARY = 33


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def overrides(request):
    return request.param


def build(overrides):
    # PyTorch counts its own products only
    return make_model(task=make_task(VOCABULARY - 4), kernels="fairseq", **overrides)


def settings(overrides):
    """Return what ``make_model`` builds a model from."""
    args = argparse.Namespace(**{**SMALL, **overrides})
    ARCH_CONFIG_REGISTRY["b2t_transformer"](args)
    return args


def plan(overrides):
    return plan_translation(settings(overrides))


def batch():
    """Return tokens without padding, so that every model computes all positions."""
    generator = torch.Generator().manual_seed(0)
    source, target = (
        torch.randint(4, VOCABULARY, (BATCH, length), generator=generator) for length in (SRC_LEN, TGT_LEN)
    )
    return {"src_tokens": source, "src_lengths": torch.full((BATCH,), SRC_LEN), "prev_output_tokens": target}


def counted(function) -> int:
    """Return the FLOPs of a call as PyTorch counts them, which leaves out all but matrix products as well.

    Attention is taken apart into its two products: the counter does not know the CPU's fused kernel, and a fused
    backward pass computes the scores a second time.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_forward(overrides):
    model = build(overrides)
    expected = forward_flops(plan(overrides), VOCABULARY, BATCH, SRC_LEN, TGT_LEN)
    assert counted(lambda: model(**batch())) == expected
    model.eval()
    assert counted(lambda: model(**batch())) == expected


def test_forward_and_backward(overrides):
    """The gradients of both factors of each product, even at the bottom: the embeddings are trained."""
    model = build(overrides)
    expected = training_flops(plan(overrides), VOCABULARY, BATCH, SRC_LEN, TGT_LEN)
    assert counted(lambda: model(**batch())[0].sum().backward()) == expected


def test_each_stack_alone(overrides):
    model, planned, tokens = build(overrides), plan(overrides), batch()
    source, target = (tokens["src_tokens"], tokens["src_lengths"]), tokens["prev_output_tokens"]
    assert counted(lambda: model.encoder(*source)) == encoder_flops(planned, BATCH, SRC_LEN)
    encoder_out = model.encoder(*source)
    expected = decoder_flops(planned, VOCABULARY, BATCH, SRC_LEN, TGT_LEN)
    assert counted(lambda: model.decoder(target, encoder_out)) == expected


def test_sharing_changes_nothing():
    names = ("b2t", "sequence", "cycle", "cycle_rev", "one-set")
    counts = {forward_flops(plan(MODELS[name]), VOCABULARY, BATCH, SRC_LEN, TGT_LEN) for name in names}
    assert len(counts) == 1


def test_a_count_by_hand():
    """6-6 layers of the base size, one token on either side: 2 FLOPs for each weight, and those of attention."""
    base = {"encoder_embed_dim": 512, "encoder_ffn_embed_dim": 2048}
    encoder_weights, decoder_weights = 6 * (4 * 512**2 + 2 * 512 * 2048), 6 * (8 * 512**2 + 2 * 512 * 2048)
    attention = (6 + 2 * 6) * 2 * 2 * 512
    expected = 2 * (encoder_weights + decoder_weights + 512 * 32768) + attention
    assert forward_flops(plan(base), 32768, 1, 1, 1) == expected


def test_what_cannot_be_counted():
    adaptive = {"share_all_embeddings": False, "adaptive_softmax_cutoff": "8,16"}
    with pytest.raises(InputError, match=r"--adaptive-softmax-cutoff .*cannot be counted"):
        forward_flops(plan(adaptive), VOCABULARY, BATCH, SRC_LEN, TGT_LEN)


@pytest.mark.parametrize("residual", SCHEMES)
def test_parameters_of_a_checkpoint_are_those_of_its_model(residual):
    """Shared layers and shared embeddings count once, what a scheme owns at each depth counts, buffers do not."""
    flags = {"residual": residual, "layer_sharing": "cycle_rev", **SHARED}
    model = make_model(**flags)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(plan_of_checkpoint(vars(settings(flags))), model.state_dict()) == expected


def test_parameters_of_every_size_of_model(overrides):
    model = build(overrides)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(plan_of_checkpoint(vars(settings(overrides))), model.state_dict()) == expected

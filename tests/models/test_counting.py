"""FLOPs are counted as PyTorch's own counter sees them in a real model, parameters as they are in the model."""

import pytest
import torch
from helpers import make_model, make_task, model_settings
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from b2t_common.errors import InputError
from b2t_fairseq.counting import count_parameters, decoder_flops, encoder_flops, forward_flops, training_flops
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.settings.plan import plan_of_checkpoint, plan_translation

BATCH, SRC_LEN, TGT_LEN = 3, 5, 7
SHARED = {"encoder_unique_layers": 3, "decoder_unique_layers": 2}
MODELS = {
    "post_ln": {"residual": "post_ln"},
    "pre_ln": {"residual": "pre_ln"},
    "b2t": {"residual": "b2t"},
    "resi_dual": {"residual": "resi_dual"},
    "sub_ln": {"residual": "sub_ln"},
    "sequence": {"layer_sharing": "sequence", **SHARED},
    "cycle": {"layer_sharing": "cycle", **SHARED},
    "cycle_rev": {"layer_sharing": "cycle_rev", **SHARED},
    "one-set": {"layer_sharing": "sequence", "encoder_unique_layers": 1, "decoder_unique_layers": 1},
    "deep-encoder": {"encoder_layers": 9, "decoder_layers": 1},
    "other-sizes": {
        "share_all_embeddings": False,
        "encoder_embed_dim": 24,
        "encoder_ffn_embed_dim": 40,
        "decoder_embed_dim": 16,
        "decoder_ffn_embed_dim": 56,
        "decoder_attention_heads": 2,
    },
    "output-dim": {"share_all_embeddings": False, "decoder_output_dim": 12},
    "no-cross-attention": {"no_cross_attention": True},
    "cross-self-attention": {"no_cross_attention": True, "cross_self_attention": True},
    "pruned": {"encoder_layers_to_keep": "0,2,5", "decoder_layers_to_keep": "1,3"},
}
VOCABULARY = 33


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def overrides(request):
    """Each model's settings in turn."""
    return request.param


def build(overrides):
    """Build a model with fairseq's kernels, since PyTorch counts only products of its own."""
    return make_model(task=make_task(VOCABULARY - 4), kernels="fairseq", **overrides)


def plan(overrides):
    return plan_translation(model_settings(**overrides))


def batch():
    """Return tokens without padding, so that every model computes all positions."""
    generator = torch.Generator().manual_seed(0)
    source, target = (
        torch.randint(4, VOCABULARY, (BATCH, length), generator=generator) for length in (SRC_LEN, TGT_LEN)
    )
    return {"src_tokens": source, "src_lengths": torch.full((BATCH,), SRC_LEN), "prev_output_tokens": target}


def counted(function) -> int:
    """Return the FLOPs of a call as PyTorch counts them, which are those of matrix products only.

    Attention is computed by two separate products, because the counter does not know the CPU's fused kernel, and a
    fused backward pass computes the scores a second time.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_flops_of_a_forward_pass(overrides):
    model = build(overrides)
    expected = forward_flops(plan(overrides), VOCABULARY, BATCH, SRC_LEN, TGT_LEN)
    assert counted(lambda: model(**batch())) == expected
    model.eval()
    assert counted(lambda: model(**batch())) == expected


def test_flops_of_a_training_step(overrides):
    """Each product has a gradient for both factors, in the lowest layer too, since embeddings are trained."""
    model = build(overrides)
    expected = training_flops(plan(overrides), VOCABULARY, BATCH, SRC_LEN, TGT_LEN)
    assert counted(lambda: model(**batch())[0].sum().backward()) == expected


def test_flops_of_each_stack_alone(overrides):
    model, planned, tokens = build(overrides), plan(overrides), batch()
    source, target = (tokens["src_tokens"], tokens["src_lengths"]), tokens["prev_output_tokens"]
    assert counted(lambda: model.encoder(*source)) == encoder_flops(planned, BATCH, SRC_LEN)
    encoder_out = model.encoder(*source)
    expected = decoder_flops(planned, VOCABULARY, BATCH, SRC_LEN, TGT_LEN)
    assert counted(lambda: model.decoder(target, encoder_out)) == expected


def test_sharing_does_not_change_the_flops():
    names = ("b2t", "sequence", "cycle", "cycle_rev", "one-set")
    counts = {forward_flops(plan(MODELS[name]), VOCABULARY, BATCH, SRC_LEN, TGT_LEN) for name in names}
    assert len(counts) == 1


def test_flops_counted_by_hand():
    """A base model computes 2 FLOPs for each weight and those of attention, for one token in each stack."""
    base = {"encoder_embed_dim": 512, "encoder_ffn_embed_dim": 2048}
    encoder_weights, decoder_weights = 6 * (4 * 512**2 + 2 * 512 * 2048), 6 * (8 * 512**2 + 2 * 512 * 2048)
    attention = (6 + 2 * 6) * 2 * 2 * 512
    expected = 2 * (encoder_weights + decoder_weights + 512 * 32768) + attention
    assert forward_flops(plan(base), 32768, 1, 1, 1) == expected


def test_an_adaptive_softmax_cannot_be_counted():
    adaptive = {"share_all_embeddings": False, "adaptive_softmax_cutoff": "8,16"}
    with pytest.raises(InputError, match=r"--adaptive-softmax-cutoff .*cannot be counted"):
        forward_flops(plan(adaptive), VOCABULARY, BATCH, SRC_LEN, TGT_LEN)


@pytest.mark.parametrize("residual", SCHEMES)
def test_parameters_of_a_checkpoint_are_those_of_its_model(residual):
    """Shared layers and embeddings count once, a scheme's own parameters at each depth, and buffers not at all."""
    flags = {"residual": residual, "layer_sharing": "cycle_rev", **SHARED}
    model = make_model(**flags)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(plan_of_checkpoint(vars(model_settings(**flags))), model.state_dict()) == expected


def test_parameters_of_every_size_of_model(overrides):
    model = build(overrides)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(plan_of_checkpoint(vars(model_settings(**overrides))), model.state_dict()) == expected

"""``--kernels fast`` gives the numbers of ``--kernels fairseq``, to rounding."""

import pytest
import torch
import torch.nn.functional as F
from checks import assert_close, logits_and_gradients
from helpers import make_batch, make_model, make_task, randomize
from language_models import make_lm

from b2t_fairseq import layer_stack
from b2t_fairseq.kernels import attention
from b2t_fairseq.kernels.attention import FusedMultiheadAttention
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.upstream import patches, patching

FLAGS = [
    {},
    {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 2},
    {"share_all_embeddings": False, "encoder_embed_dim": 24, "decoder_embed_dim": 16, "decoder_ffn_embed_dim": 40},
    {"activation_fn": "gelu", "decoder_learned_pos": True, "layernorm_embedding": True},
    {"no_cross_attention": True, "cross_self_attention": True},
    {"checkpoint_activations": True},
    {"quant_noise_pq": 0.5, "quant_noise_pq_block_size": 4},
    {"residual": "sub_ln", "cross_self_attention": True},
    {"residual": "sub_ln", "quant_noise_pq": 0.5, "quant_noise_pq_block_size": 4},
]


def pair(**flags):
    """Return a model with fairseq's kernels and one with the fast ones, with the same parameters."""
    return [randomize(make_model(kernels=kernels, **flags)) for kernels in ("fairseq", "fast")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_logits_and_gradients_for_every_scheme(scheme, onednn):
    for padding in (True, False):
        batch = make_batch(padding=padding)
        assert_close(*(logits_and_gradients(model.train(), batch) for model in pair(residual=scheme)))


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: " ".join(flags) or "default")
def test_same_logits_and_gradients_with_flags(flags, onednn):
    assert_close(*(logits_and_gradients(model.train(), make_batch()) for model in pair(**flags)))


def test_dropout_draws_the_same_numbers():
    models = pair(dropout=0.3, activation_dropout=0.2)
    assert_close(*(logits_and_gradients(model.train(), make_batch()) for model in models))


def test_validation_gives_the_same_logits(onednn):
    batch = make_batch()
    logits = [model.eval()(**batch["net_input"])[0][batch["target"] != 1] for model in pair()]
    assert torch.allclose(*logits, rtol=1e-5, atol=1e-5)


def test_a_language_model_gives_the_same_logits(onednn):
    tokens = torch.randint(4, 24, (3, 9), generator=torch.Generator().manual_seed(1))
    logits = []
    for kernels in ("fairseq", "fast"):
        logits.append(randomize(make_lm(kernels=kernels)).train()(tokens)[0])
    assert torch.allclose(*logits, rtol=1e-5, atol=1e-5)


def test_bfloat16_gives_the_same_logits():
    logits = [model.bfloat16().eval()(**make_batch()["net_input"])[0].float() for model in pair()]
    assert (logits[0] - logits[1]).abs().max() < 0.03 * logits[0].abs().max()


def test_parameters_are_those_of_fairseqs_kernels():
    exact, fast = pair()
    assert list(exact.state_dict()) == list(fast.state_dict())
    exact.load_state_dict(fast.state_dict())


def test_targets_padded_on_the_right_need_no_mask(monkeypatch):
    """Padding comes after the words, so that the causal mask hides it already; padding on the left needs a mask."""
    task = make_task()
    for left_pad_target, masks in ((False, 0), (True, 6)):
        task.cfg = type("Settings", (), {"left_pad_target": left_pad_target})
        model = randomize(make_model(task=task, encoder_layers=1)).train()
        seen = []

        attend = F.scaled_dot_product_attention

        def observed(query, key, value, attn_mask=None, seen=seen, attend=attend, **settings):
            if settings["is_causal"] or (attn_mask is not None and attn_mask.size(2) == query.size(2) > 1):
                seen.append(attn_mask)
            return attend(query, key, value, attn_mask=attn_mask, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(F, "scaled_dot_product_attention", observed)
            logits, _ = model(**make_batch()["net_input"])
        assert len(seen) == 6
        assert sum(mask is not None for mask in seen) == masks
        exact = randomize(make_model(task=task, encoder_layers=1, kernels="fairseq")).train()
        real = make_batch()["target"] != 1
        assert torch.allclose(logits[real], exact(**make_batch()["net_input"])[0][real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("left_pad_target", "expected"), [(False, 2), (True, 3)])
def test_a_mask_is_made_once_for_all_layers(monkeypatch, left_pad_target, expected):
    """There is one for the source in each stack, and one for the target if it is padded before its words."""
    made = []
    plain = attention.padding_scores
    for module in (attention, layer_stack):
        monkeypatch.setattr(module, "padding_scores", lambda *given, **how: made.append(given) or plain(*given, **how))
    task = make_task()
    task.cfg = type("Settings", (), {"left_pad_target": left_pad_target})
    logits_and_gradients(make_model(task=task).train(), make_batch())
    assert len(made) == expected


@pytest.mark.parametrize("is_causal", [False, True])
def test_rows_of_a_mask_begin_at_multiples_of_eight(is_causal):
    """The mask is the same, so that no kernel for half precision has to copy it."""
    padding = make_batch()["net_input"]["src_tokens"].eq(1)
    plain, aligned = (attention.padding_scores(padding, torch.bfloat16, is_causal, multiple) for multiple in (1, 8))
    assert torch.equal(plain, aligned)
    assert padding.size(1) == 7
    assert aligned.stride()[-2:] == (8, 1)
    assert aligned.stride(0) % 8 == 0


@pytest.mark.parametrize("no_cross_attention", [True, False])
def test_one_attention_to_both_sides_does_not_see_the_sources_padding(no_cross_attention):
    """This is so with --cross-self-attention, with targets padded on the right, as fairseq pads them."""
    task = make_task()
    task.cfg = type("Settings", (), {"left_pad_target": False})
    flags = {"task": task, "cross_self_attention": True, "no_cross_attention": no_cross_attention}
    assert_close(*(logits_and_gradients(model.train(), make_batch()) for model in pair(**flags)))


def test_attention_weights_can_still_be_asked_for():
    exact, fast = pair()
    weights = [model.eval()(**make_batch()["net_input"], alignment_layer=2)[1]["attn"][0] for model in (exact, fast)]
    assert torch.allclose(*weights, atol=1e-5)
    assert isinstance(fast.decoder.layers[0].encoder_attn, FusedMultiheadAttention)
    assert not isinstance(exact.decoder.layers[0].encoder_attn, FusedMultiheadAttention)


def test_cudnns_attention_is_off_unless_the_user_turns_it_on():
    """cuDNN plans anew for each shape of a batch; what the user sets after the import stays."""
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        patches.apply(patching.AT_IMPORT)
        logits_and_gradients(make_model().train(), make_batch())
        assert torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(False)

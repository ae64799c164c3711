"""``b2t convert --to pre_rms_norm``: a Pre-LN model becomes a model with RMSNorms that computes the same."""

import pytest
import torch
from checks import CYCLE_REV
from conversion import B2T, POST, PRE, assert_logits, assert_translations, convert, loaded, refused
from helpers import SMALL, fill, make_batch, make_model, randomize, step_by_step_logits
from releases import release_checkpoint
from torch import nn
from training import load

from b2t_cli.conversion.pre_rms_norm import to_pre_rms_norm
from b2t_common.errors import InputError
from b2t_fairseq.normalization import RMSNorm
from b2t_fairseq.settings.fields import as_namespace

pytestmark = pytest.mark.usefixtures("settings_translated_once")


def checkpoint_of(model, **flags):
    """Return what of a checkpoint is converted."""
    settings = vars(as_namespace(fill("b2t_transformer", {**SMALL, "residual": "pre_ln", **flags})))
    return {"cfg": {"model": {"_name": "b2t_transformer", **settings}}, "model": model.state_dict()}


def test_a_trained_model_gives_its_recorded_logits_and_translations(tmp_path, capsys):
    """Step by step too.  The converted checkpoint is loaded as every other one."""
    plugin = convert(release_checkpoint(PRE), tmp_path, output="plugin.pt")
    capsys.readouterr()
    path = convert(plugin, tmp_path, "--to", "pre_rms_norm", output="rms.pt")
    assert "tokens are those of the Pre-LN model within" in capsys.readouterr().out
    golden, model, cfg = loaded(PRE, path, tmp_path)
    assert cfg["model"]["norm"] == "rms_norm"
    modules = list(model.modules())
    assert not any(isinstance(module, nn.LayerNorm) for module in modules)
    assert sum(isinstance(module, RMSNorm) for module in modules) == 3 * 2 + 3 * 3 + 2
    assert_logits(golden, model, "out/")
    assert_translations(golden, model, "generation")


@pytest.mark.parametrize(
    "flags",
    [CYCLE_REV, {"encoder_learned_pos": True, "decoder_learned_pos": True, "share_all_embeddings": False}],
    ids=["shared", "learned"],
)
def test_random_models_compute_the_same(flags):
    """Shared layers remain shared, and a residual stream with a large mean is no exception."""
    model = randomize(make_model(residual="pre_ln", **flags)).eval()
    state, _ = to_pre_rms_norm(checkpoint_of(model, **flags))
    changed = {name: state["cfg"]["model"][name] for name in ("norm", "rms_norm_bias", "center_embedding")}
    converted = make_model(residual="pre_ln", **flags, **changed).eval()
    converted.load_state_dict(state["model"])
    batch, real = make_batch(), make_batch()["target"] != 1
    with torch.no_grad():
        expected, _ = model.double()(**batch["net_input"])
        logits, _ = converted.double()(**batch["net_input"])
        steps = step_by_step_logits(converted, batch)
    scale = expected.abs().max()
    assert (expected - logits).abs().max() < 1e-5 * scale
    assert (logits - steps)[real].abs().max() < 1e-5 * scale
    assert sum(p.numel() for p in converted.parameters()) == sum(p.numel() for p in model.parameters())


def test_all_but_pre_ln_is_refused_with_the_reason(tmp_path, capsys):
    for name in (POST, B2T):
        plugin = convert(release_checkpoint(name), tmp_path, output="plugin.pt")
        message = refused(plugin, tmp_path, capsys, "--to", "pre_rms_norm")
        assert f"--residual {load(plugin)['cfg']['model']['residual']} cannot be written with RMSNorms" in message
        assert "only in Pre-LN, x + f(LN(x)), does nothing but norms read the residual stream" in message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"norm": "scale_norm"}, "--norm scale_norm: only models with --norm layer_norm"),
        ({"no_decoder_final_norm": True}, "--no-decoder-final-norm: the output layer"),
        ({"layernorm_embedding": True}, "--layernorm-embedding: the input of that norm"),
        ({"encoder_layers_to_keep": "0", "decoder_layers_to_keep": "0,2"}, "--encoder-layers-to-keep 0: pruned"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_under_which_means_matter_are_refused(flags, words):
    with pytest.raises(InputError, match=words):
        to_pre_rms_norm(checkpoint_of(make_model(residual="pre_ln"), **flags))


def test_the_result_is_no_stock_transformer(tmp_path, capsys):
    plugin = convert(release_checkpoint(PRE), tmp_path, output="plugin.pt")
    path = convert(plugin, tmp_path, "--to", "pre_rms_norm", output="rms.pt")
    message = refused(path, tmp_path, capsys, "--to", "stock")
    assert "--norm rms_norm cannot be written as fairseq's own transformer" in message
    assert "--norm rms_norm: only" in refused(path, tmp_path, capsys, "--to", "pre_rms_norm")


def test_a_model_with_other_norms_refuses_to_center_its_embedding():
    with pytest.raises(InputError, match=r"--center-embedding has no effect with --norm layer_norm.* --norm rms_norm"):
        make_model(center_embedding=True)

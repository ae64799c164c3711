"""``b2t convert --to transformers``: the real library gives the logits and the translations of every kind of model."""

import pytest
import torch
from helpers import make_batch

pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[transformers]'")

from hugging_face import (
    DEPTHS,
    SETS,
    assert_same_logits,
    assert_same_translations,
    model_and_state,
    state_of,
    write_model,
    written,
)
from safetensors import safe_open
from searching import make_translator
from transformers import AutoModelForSeq2SeqLM

from b2t_fairseq.normalization import NORMS
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.sharing import STRATEGIES

pytestmark = pytest.mark.usefixtures("copied_code")

SHARED = {"layer_sharing": "cycle_rev", **SETS}
KINDS = [{"residual": scheme, **(SHARED if number % 2 else {})} for number, scheme in enumerate(SCHEMES)]
KINDS += [{"norm": norm, **SHARED} for norm in NORMS]
OTHERS = [
    *({"layer_sharing": name, **SETS} for name in STRATEGIES if name not in ("none", "cycle_rev", "sandwich")),
    {"layer_sharing": "sandwich", "encoder_unique_layers": 3, "decoder_unique_layers": 3},
    {"layer_sharing": "0,1,1,0/none", "share_norms": False},
    {"share_sublayers": "attention", "residual": "keel", **SHARED},
    {"share_encoder_decoder": True, **SHARED},
    {"positions": "learned", "layernorm_embedding": True},
    {"positions": "shape", "activation_fn": "gelu_accurate"},
    {"no_token_positional_embeddings": True, "no_scale_embedding": True, "activation_fn": "gelu"},
    {"norm": "rms_norm", "rms_norm_bias": True, "center_embedding": True, "residual": "pre_ln"},
    {"residual": "pre_ln", "no_decoder_final_norm": True, "activation_fn": "tanh"},
    {"share_all_embeddings": False, "decoder_embed_dim": 24, "decoder_ffn_embed_dim": 48, "decoder_output_dim": 8},
    {"share_all_embeddings": False, "share_decoder_input_output_embed": True, "decoder_attention_heads": 2},
    {"share_all_embeddings": False, "merge_src_tgt_embed": True},
    {"encoder_layers_to_keep": "0,2", "decoder_layers_to_keep": "1,3", "residual": "ln_scaling"},
]


@pytest.mark.parametrize("flags", KINDS, ids=lambda flags: " ".join(map(str, flags.values())))
def test_every_scheme_and_norm_gives_the_same_logits_and_translations(tmp_path, flags):
    model, other = written(tmp_path / "model", **flags)
    assert_same_logits(model, other)
    assert_same_translations(model, other, beam=3, lenpen=0.6, max_len=5)


@pytest.mark.slow
@pytest.mark.parametrize("flags", OTHERS, ids=lambda flags: " ".join(f"{k}={v}" for k, v in flags.items()))
def test_every_setting_gives_the_same_logits(tmp_path, flags):
    assert_same_logits(*written(tmp_path / "model", **flags))


@pytest.mark.parametrize(("end", "ended"), [(1.5, 0), (2.0, 6)], ids=["cut", "ended"])
def test_every_search_finds_the_same_translations(tmp_path, end, ended):
    """Greedy search and beams, with length penalties; translations that are cut and those that end by themselves."""
    flags = {"share_all_embeddings": False, **SHARED}
    model = make_translator(end=end, **DEPTHS, **flags)
    other = write_model(state_of(model, **flags), tmp_path / "model")
    for search in ((1, 1.0, 12), (2, 0.0, 12), (4, 1.0, 12), (5, 2.0, 20)):
        assert assert_same_translations(model, other, *search) == ended


def test_two_models_in_one_process_have_their_own_code(tmp_path):
    """transformers keeps one class of models for each class of configurations; equal names make a mistake silent."""
    models = [model_and_state(residual=residual) for residual in ("post_ln", "b2t")]
    for (model, state), name in zip(models, ("a", "b"), strict=True):
        (tmp_path / name).mkdir()
        write_model(state, tmp_path / name / "model")
        other = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name / "model", trust_remote_code=True)
        assert_same_logits(model, other)
    (tmp_path / "b/model/residual_b2t.py").write_bytes((tmp_path / "a/model/residual_b2t.py").read_bytes())
    with pytest.raises(ValueError, match="is of --residual b2t, but the code of post_ln"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "b/model", trust_remote_code=True)


def test_fine_tuning_keeps_shared_parameters_and_is_saved(tmp_path):
    """The loss is fairseq's, a step changes all layers of a set, and what is saved loads again with its code."""
    model, state = model_and_state(**SHARED, dropout=0.1)
    write_model(state, tmp_path / "model")
    other = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert len(list(other.parameters())) == len(list(model.parameters()))
    batch = make_batch()
    labels = batch["target"].masked_fill(batch["target"] == 1, -100)
    source = batch["net_input"]["src_tokens"]
    logits, _ = model(**batch["net_input"])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["target"].flatten(), ignore_index=1)
    assert other(input_ids=source, labels=labels).loss.item() == pytest.approx(expected.item(), rel=1e-5)
    other.train()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    other(input_ids=source, labels=labels).loss.backward()
    optimizer.step()
    assert torch.equal(other.encoder.layers[0].fc1.weight, other.encoder.layers[3].fc1.weight)
    assert not torch.equal(other.encoder.layers[0].fc1.weight, model.encoder.layers[0].fc1.weight)
    other.eval().save_pretrained(tmp_path / "tuned")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "tuned", trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(*(each(input_ids=source, labels=labels).logits for each in (other, again)))


def test_each_parameter_is_stored_once(tmp_path):
    """And a shared layer is one entry of the configuration, not one for each of its parameters."""
    model, other = written(tmp_path / "model", residual="admin", **SHARED)
    with safe_open(tmp_path / "model/model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parameters = dict(other.named_parameters())
    assert parameters.keys() <= stored.keys()
    assert sum(parameters[name].numel() for name in parameters) == sum(p.numel() for p in model.parameters())
    assert not {name for name in stored if name.startswith("encoder.layers.3.") and "residual" not in name}
    assert other.config.tied["decoder.layers.2.fc1"] == "decoder.layers.1.fc1"


def test_what_the_code_cannot_do_is_an_error(tmp_path):
    _, other = written(tmp_path / "model")
    source = make_batch()["net_input"]["src_tokens"]
    with pytest.raises(ValueError, match="neither attention weights nor hidden states"):
        other.generate(input_ids=source, return_dict_in_generate=True, output_attentions=True)
    with pytest.raises(ValueError, match="give decoder_input_ids or labels"):
        other(input_ids=source)

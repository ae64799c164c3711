"""Settings: every flag of fairseq's transformer is a flag here, and contradictions are refused with a reason."""

import dataclasses

import pytest
import torch
from fairseq.models import ARCH_MODEL_INV_REGISTRY
from fairseq.models.transformer import TransformerConfig
from flags import model_flags, parse
from helpers import make_model, make_task

from b2t_fairseq.models.transformer import B2TTransformerModel
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.settings.fields import B2TTransformerConfig, as_namespace
from b2t_fairseq.sharing import STRATEGIES


def test_every_flag_of_fairseqs_transformer_is_a_flag_here():
    added = model_flags("b2t_transformer") - model_flags("transformer")
    assert model_flags("transformer") <= model_flags("b2t_transformer")
    assert added == {
        "--residual",
        "--layer-sharing",
        "--encoder-unique-layers",
        "--decoder-unique-layers",
        "--encoder-word-dropout",
        "--decoder-word-dropout",
        "--init",
        "--share-sublayers",
        "--share-norms",
        "--no-share-norms",
        "--share-encoder-decoder",
        "--depth-scaled-init",
        "--kernels",
        "--compile",
        "--admin-profile",
        "--branch-norm-updates",
    }


def test_every_setting_of_fairseqs_transformer_has_its_default():
    """So a newer fairseq with another field or another default is noticed."""
    ours = {f.name: f.default for f in dataclasses.fields(B2TTransformerConfig)}
    derived = {"decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_output_dim"}

    def check(config_class, prefix):
        for stock in dataclasses.fields(config_class):
            name = prefix + stock.name
            if stock.name in ("encoder", "decoder", "quant_noise") and not prefix:
                check(stock.type, f"{name}_")
            elif name in derived:
                assert ours[name] is None
            elif stock.name != "_name" and name != "decoder_input_dim":
                assert ours[name] == stock.default, name

    check(TransformerConfig, "")


SIZES = {
    "b2t_transformer": (6, 512, 2048, 8),
    "b2t_transformer_tiny": (2, 64, 64, 2),
    "b2t_transformer_iwslt_de_en": (6, 512, 1024, 4),
    "b2t_transformer_wmt_en_de": (6, 512, 2048, 8),
    "b2t_transformer_wmt_en_de_18l": (18, 512, 2048, 8),
    "b2t_transformer_wmt_en_de_big": (6, 1024, 4096, 16),
}


@pytest.mark.parametrize("arch", SIZES)
def test_an_architecture_has_its_sizes_and_b2t(arch):
    cfg = parse("--arch", arch)
    layers, width, ffn, heads = SIZES[arch]
    for stack in ("encoder", "decoder"):
        assert cfg[f"{stack}_layers"] == layers
        assert cfg[f"{stack}_embed_dim"] in (width, None)
        assert cfg[f"{stack}_ffn_embed_dim"] in (ffn, None)
        assert cfg[f"{stack}_attention_heads"] == heads
    assert cfg.residual == "b2t"
    assert cfg.layer_sharing == "none"
    assert not cfg.depth_scaled_init
    assert cfg.encoder_word_dropout == cfg.decoder_word_dropout == 0


def test_the_sizes_of_every_architecture_are_tested():
    assert sorted(ARCH_MODEL_INV_REGISTRY["b2t_transformer"]) == sorted(SIZES)


def test_flags_override_the_architecture():
    cfg = parse("--arch", "b2t_transformer_wmt_en_de_18l", "--encoder-layers", "12", "--decoder-embed-dim", "256")
    assert (cfg.encoder_layers, cfg.decoder_layers, cfg.decoder_embed_dim) == (12, 18, 256)


def test_the_decoder_has_the_encoders_width_unless_told_otherwise():
    model = make_model(encoder_embed_dim=24, encoder_ffn_embed_dim=40)
    layer = model.decoder.layers[0]
    assert (layer.embed_dim, layer.fc1.out_features) == (24, 40)


ONE_SET = {"encoder_unique_layers": 1, "decoder_unique_layers": 1}
SIX_SETS = {"encoder_unique_layers": 6, "decoder_unique_layers": 6}
# In millions, as in the papers' tables, with a vocabulary of 32,768 and all embeddings shared.
COUNTS = [
    ("b2t_transformer_wmt_en_de", {}, "60.9"),
    ("b2t_transformer_wmt_en_de_18l", {}, "149.2"),
    ("b2t_transformer_wmt_en_de", {"encoder_layers": 12, "decoder_layers": 12}, "105.1"),
    ("b2t_transformer_wmt_en_de_big", {}, "209.9"),
    ("b2t_transformer_wmt_en_de_big", {"layer_sharing": "cycle", **ONE_SET}, "62.9"),
    *(
        (
            "b2t_transformer_wmt_en_de",
            {"layer_sharing": strategy, "encoder_layers": n, "decoder_layers": n, **SIX_SETS},
            "60.9",
        )
        for strategy in ("sequence", "cycle", "cycle_rev")
        for n in (12, 18)
    ),
]


@pytest.fixture(scope="module")
def wmt_task():
    return make_task(num_words=32768 - 4)


@pytest.mark.parametrize(("arch", "flags", "millions"), COUNTS)
def test_parameter_counts_are_the_papers(arch, flags, millions, wmt_task):
    cfg = parse("--arch", arch, "--share-all-embeddings")
    args = as_namespace(cfg)
    for name, value in flags.items():
        setattr(args, name, value)
    with torch.device("meta"):
        model = B2TTransformerModel.build_model(args, wmt_task)
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}" == millions


M3 = {"encoder_unique_layers": 3, "decoder_unique_layers": 3}
REFUSED = [
    ({"layer_sharing": "cycle", **M3, "encoder_unique_layers": 4}, ["4", "6 layers", "1, 2, 3, 6"]),
    ({"layer_sharing": "cycle", **M3, "decoder_unique_layers": 0}, ["--decoder-unique-layers", "0 unique"]),
    (M3, ["3 unique layers without a strategy", "sequence, cycle, cycle_rev"]),
    ({"layer_sharing": "cycle"}, ["--layer-sharing cycle needs", "6 layers"]),
    ({"layer_sharing": "cycle", "encoder_unique_layers": 3}, ["--decoder-unique-layers", "needs"]),
    ({"layer_sharing": "spiral", **M3}, ["spiral", *STRATEGIES]),
    ({"residual": "b2b"}, ["b2b", *SCHEMES]),
    ({"encoder_normalize_before": True}, ["--encoder-normalize-before", "--residual b2t", "pre_ln"]),
    (
        {"residual": "post_ln", "decoder_normalize_before": True},
        ["--decoder-normalize-before", "--residual post_ln"],
    ),
    ({"no_decoder_final_norm": True}, ["--no-decoder-final-norm", "b2t"]),
    ({"dropout": 1.0}, ["--dropout 1.0"]),
    ({"encoder_word_dropout": -0.1}, ["--encoder-word-dropout -0.1"]),
    ({"decoder_word_dropout": 1.5}, ["--decoder-word-dropout 1.5"]),
    ({"encoder_layerdrop": float("nan")}, ["--encoder-layerdrop nan"]),
    ({"adaptive_input": True}, ["--adaptive-input", "language models"]),
    ({"tie_adaptive_weights": True}, ["--tie-adaptive-weights"]),
    ({"tie_adaptive_proj": True}, ["--tie-adaptive-proj"]),
    ({"char_inputs": True}, ["--char-inputs"]),
    ({"export": True}, ["--export", "TorchScript"]),
    ({"merge_src_tgt_embed": True}, ["--merge-src-tgt-embed", "--share-all-embeddings True"]),
    ({"encoder_learned_pos": True, "no_token_positional_embeddings": True}, ["--encoder-learned-pos"]),
    ({"relu_dropout": 0.1, "activation_dropout": 0.1}, ["--relu-dropout", "--activation-dropout 0.1"]),
    ({"quant_noise_pq_block_size": 4}, ["--quant-noise-pq-block-size 4", "--quant-noise-pq"]),
    ({"base_layers": 2}, ["--base-layers 2"]),
    ({"base_shuffle": 0}, ["--base-shuffle 0", "--base-layers"]),
    ({"adaptive_softmax_dropout": 0.2}, ["--adaptive-softmax-dropout 0.2", "--adaptive-softmax-cutoff"]),
    ({"encoder_embed_dim": 18}, ["--encoder-embed-dim 18", "4"]),
    ({"encoder_layers": 0}, ["--encoder-layers 0"]),
    ({"decoder_output_dim": 8}, ["--decoder-output-dim 8", "16"]),
    ({"encoder_layers_to_keep": "0,7"}, ["0,7", "0 and 5"]),
    (
        {"encoder_layers_to_keep": "0,2"},
        ["--encoder-layers-to-keep 0,2", "--decoder-layers-to-keep 0,1,2,3,4,5"],
    ),
    ({"adaptive_softmax_cutoff": "__import__('os').abort()"}, ["--adaptive-softmax-cutoff __import__", "code"]),
    ({"decoder_xformers_att_config": "__import__('os').abort()"}, ["--decoder-xformers-att-config", "code"]),
    ({"encoder_layers_to_keep": "first"}, ["--encoder-layers-to-keep first"]),
]


@pytest.mark.parametrize(("flags", "quoted"), REFUSED)
def test_contradictions_are_refused(flags, quoted):
    """The message quotes the values that contradict each other."""
    with pytest.raises(ValueError, match="[a-z]") as error:  # noqa: RUF043
        make_model(**flags)
    for words in quoted:
        assert words in str(error.value), str(error.value)


def test_unknown_scheme_on_the_command_line_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        parse("--arch", "b2t_transformer", "--residual", "b2b")
    message = capsys.readouterr().err
    assert "b2b" in message
    assert all(scheme in message for scheme in SCHEMES)


def test_flags_that_agree_with_the_scheme_are_accepted():
    """Pre-LN may be asked for by fairseq's flags too, and may do without the decoder's last norm."""
    make_model(residual="pre_ln", encoder_normalize_before=True, decoder_normalize_before=True)
    model = make_model(residual="pre_ln", no_decoder_final_norm=True)
    assert model.encoder.layer_norm is not None
    assert model.decoder.layer_norm is None

"""Language models: architectures, flags, and settings that are refused."""

from dataclasses import fields

import pytest
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from flags import model_flags, parse
from language_models import ADAPTIVE, CHARACTERS, decoder_sharing, make_lm

from b2t_common.errors import InputError
from b2t_fairseq.settings.fields import B2TLanguageModelConfig


def test_every_flag_of_fairseqs_language_model_is_a_flag_here():
    ours, stock = model_flags("b2t_transformer_lm"), model_flags("transformer_lm")
    assert stock <= ours
    added = {flag for flag in model_flags("b2t_transformer") - model_flags("transformer") if "encoder" not in flag}
    assert ours - stock == added


def test_every_setting_of_fairseqs_language_model_has_its_default():
    """The input and output width follow the embedding width unless they are given."""
    ours = {own.name: own.default for own in fields(B2TLanguageModelConfig)}
    for stock in fields(TransformerLanguageModelConfig):
        followed = stock.name in ("decoder_input_dim", "decoder_output_dim")
        assert ours[stock.name] == (None if followed else stock.default), stock.name


REFUSED = [
    ({**decoder_sharing("cycle", 4)}, ["--decoder-unique-layers", "4 unique layers do not divide 6"]),
    ({"decoder_normalize_before": True}, ["--decoder-normalize-before", "--residual b2t"]),
    ({"no_decoder_final_norm": True}, ["--no-decoder-final-norm", "--residual b2t"]),
    ({"decoder_attention_heads": 3}, ["--decoder-embed-dim 16", "--decoder-attention-heads 3"]),
    ({"decoder_word_dropout": 1.0}, ["--decoder-word-dropout 1.0"]),
    ({"base_layers": 1}, ["--base-layers 1"]),
    ({"scale_attn": True}, ["--scale-attn is not supported", "NormFormer"]),
    ({"adaptive_input_cutoff": "8,16"}, ["--adaptive-input-cutoff 8,16", "--adaptive-input"]),
    ({"tie_adaptive_weights": True}, ["--tie-adaptive-weights has no effect without --adaptive-input"]),
    ({"tie_adaptive_proj": True}, ["--tie-adaptive-proj has no effect without --tie-adaptive-weights"]),
    ({"adaptive_softmax_dropout": 0.1}, ["--adaptive-softmax-dropout 0.1", "--adaptive-softmax-cutoff"]),
    ({"character_embedding_dim": 8}, ["--character-embedding-dim 8", "--character-embeddings"]),
    ({"adaptive_softmax_cutoff": "8"}, ["--share-decoder-input-output-embed", "--adaptive-softmax-cutoff 8"]),
    ({**ADAPTIVE, "share_decoder_input_output_embed": True, "adaptive_softmax_cutoff": None}, ["--adaptive-input"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": None}, ["--adaptive-input needs --adaptive-input-cutoff"]),
    ({**ADAPTIVE, "adaptive_softmax_cutoff": None}, ["--tie-adaptive-weights", "--adaptive-softmax-cutoff"]),
    ({**ADAPTIVE, "adaptive_softmax_cutoff": "8"}, ["--adaptive-softmax-cutoff 8 and --adaptive-input-cutoff 8,16"]),
    ({**ADAPTIVE, "adaptive_softmax_factor": 2}, ["--adaptive-softmax-factor 2 and --adaptive-input-factor 4"]),
    ({**ADAPTIVE, "decoder_input_dim": 32}, ["--decoder-output-dim 16 and --decoder-input-dim 32"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "16,8"}, ["--adaptive-input-cutoff 16,8", "ascending"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "8,23"}, ["--adaptive-input-cutoff 8,23", "24 symbols"]),
    ({"adaptive_softmax_cutoff": ",", "share_decoder_input_output_embed": False}, ["--adaptive-softmax-cutoff ,"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "8,99"}, ["--adaptive-input-cutoff 8,99", "24 symbols"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "__import__('os').abort()"}, ["--adaptive-input-cutoff __import__", "code"]),
    ({**ADAPTIVE, "adaptive_input_factor": 64}, ["--adaptive-input-factor 64", "--decoder-input-dim 16"]),
    ({"decoder_input_dim": 8}, ["--decoder-output-dim 16", "--decoder-input-dim 8"]),
    ({"character_embeddings": True}, ["--share-decoder-input-output-embed", "--character-embeddings"]),
    ({**CHARACTERS, "adaptive_input": True}, ["--adaptive-input has no effect with --character-embeddings"]),
    ({**CHARACTERS, "character_filters": "__import__('os').abort()"}, ["--character-filters __import__", "code"]),
    ({**CHARACTERS, "character_filters": "[1, 2]"}, ["--character-filters [1, 2]", "pairs"]),
    ({**CHARACTERS, "residual": "t_fixup"}, ["--character-embeddings", "--residual t_fixup"]),
    ({"residual": "dlcl", "decoder_layerdrop": 0.1}, ["--decoder-layerdrop 0.1", "--residual dlcl"]),
    ({"decoder_layers_to_keep": "0,6"}, ["--decoder-layers-to-keep 0,6", "0 and 5"]),
]


@pytest.mark.parametrize(("flags", "quoted"), REFUSED, ids=lambda value: " ".join(value) if type(value) is dict else "")
def test_contradictions_are_refused(flags, quoted):
    """The message quotes the values that contradict each other."""
    with pytest.raises(InputError) as error:
        make_lm(**flags)
    assert all(words in str(error.value) for words in quoted), error.value


def test_architectures_have_fairseqs_sizes_and_b2t():
    """The scheme decides where the norms are, whatever fairseq's architecture says."""
    for arch, sizes in {
        "b2t_transformer_lm": (6, 512, 2048, 8),
        "b2t_transformer_lm_small": (4, 256, 1024, 4),
        "b2t_transformer_lm_wiki103": (16, 1024, 4096, 8),
    }.items():
        cfg = parse("--task", "language_modeling", "--arch", arch)
        names = ("decoder_layers", "decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads")
        assert tuple(cfg[name] for name in names) == sizes
        assert (cfg.residual, cfg.layer_sharing) == ("b2t", "none")
        assert not cfg.decoder_normalize_before
        assert not cfg.no_decoder_final_norm
        assert cfg.adaptive_input == arch.endswith("wiki103")
    cfg = parse("--task", "language_modeling", "--arch", "b2t_transformer_lm_small", "--decoder-layers", "3")
    assert cfg.decoder_layers == 3

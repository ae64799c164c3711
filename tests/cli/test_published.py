"""A run is compared with the rows of the papers' tables that have its settings and its number of parameters."""

import re

import numpy as np
import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from flags import parse
from helpers import make_model, model_settings
from scoring import DEEP, POST_LN, SIX_SETS, wmt_settings

from b2t_cli.runs.checkpoint_model import describe
from b2t_cli.scoring import published
from b2t_cli.scoring.matching import matching
from b2t_cli.scoring.newstest import NEWSTESTS
from b2t_fairseq import checkpoints
from b2t_fairseq.building import build_without_data


def test_published_averages_are_the_means():
    rows = published.results()
    assert len(rows) == 13
    for row in rows:
        assert len(row["bleu"]) == len(NEWSTESTS)
        assert np.mean(row["bleu"]) == pytest.approx(row["average"], abs=0.01), row["model"]


WORD_DROPOUT = {"encoder_word_dropout": 0.1, "decoder_word_dropout": 0.1}
MATCHES = [
    ({**POST_LN}, ["Vanilla"]),
    ({**POST_LN, **DEEP, **SIX_SETS}, ["Cycle (rev)"]),
    ({**POST_LN, **DEEP, **SIX_SETS, "layer_sharing": "sequence"}, ["Sequence"]),
    ({**POST_LN, **DEEP, "layer_sharing": ",".join(map(str, [*range(6)] * 3))}, ["Cycle"]),
    ({**POST_LN, **DEEP, **SIX_SETS, "share_norms": False}, []),
    ({**POST_LN, **DEEP, **SIX_SETS, "share_sublayers": "attention"}, []),
    ({**POST_LN, "share_encoder_decoder": True}, []),
    ({**DEEP}, ["B2T (paper)"]),
    ({**DEEP, "positions": "sinusoidal"}, ["B2T (paper)"]),
    ({**DEEP, "positions": "shape"}, []),
    ({**DEEP, "positions": "learned"}, []),
    ({**DEEP, "norm": "rms_norm"}, []),
    ({**DEEP, **WORD_DROPOUT, "depth_scaled_init": True, "dropout": 0.5}, ["B2T (release, 2023)"]),
    ({**DEEP, **WORD_DROPOUT, "depth_scaled_init": True, "dropout": 0.3}, []),
    ({**DEEP, **WORD_DROPOUT, "init": "depth_scaled", "dropout": 0.5}, ["B2T (release, 2023)"]),
    ({**DEEP, "residual": "pre_ln"}, ["Pre-LN"]),
    ({**DEEP, "residual": "resi_dual"}, ["ResiDual, 18L-18L"]),
    ({"residual": "resi_dual"}, ["ResiDual, 6L-6L"]),
    ({"init": "spike_no_more"}, []),
    ({**DEEP, **SIX_SETS}, []),
    ({**POST_LN, **DEEP}, ["Post-LN, 18L-18L"]),
    ({}, ["B2T, 6L-6L"]),
    ({"encoder_ffn_embed_dim": 1024}, []),
    ({"decoder_layers": 3}, []),
]


@pytest.mark.parametrize(("flags", "models"), MATCHES)
def test_rows_with_the_settings_of_a_run(flags, models):
    assert [row["model"] for row in matching(wmt_settings(**flags))] == models


@pytest.mark.parametrize("strategy", ["sequence", "cycle", "cycle_rev"])
def test_one_parameter_set_is_the_universal_transformer(strategy):
    size = {"encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096}
    heads = {"encoder_attention_heads": 16, "decoder_attention_heads": 16}
    sharing = {"layer_sharing": strategy, "encoder_unique_layers": 1, "decoder_unique_layers": 1}
    rows = matching(wmt_settings(**POST_LN, **size, **heads, **sharing))
    assert [row["model"] for row in rows] == ["Universal"]


def settings_of(*flags):
    """Return the settings of a model as a checkpoint has them, for flags on the command line."""
    return checkpoints.flat_settings(parse(*flags))


SIX = ["--encoder-unique-layers", "6", "--decoder-unique-layers", "6"]
ONE = ["--encoder-unique-layers", "1", "--decoder-unique-layers", "1"]


@pytest.mark.parametrize(
    ("flags", "millions"),
    [
        (["--arch", "b2t_transformer_wmt_en_de"], "60.9"),
        (["--arch", "b2t_transformer_wmt_en_de_18l"], "149.2"),
        (["--arch", "b2t_transformer_wmt_en_de_18l", "--layer-sharing", "cycle_rev", *SIX], "60.9"),
        (["--arch", "b2t_transformer_wmt_en_de_big", "--layer-sharing", "cycle", *ONE], "62.9"),
        (["--arch", "transformer_wmt_en_de"], "60.9"),
    ],
)
def test_parameters_of_the_papers_models(flags, millions):
    settings = settings_of(*flags, "--share-all-embeddings")
    with torch.device("meta"):
        model = build_without_data(settings, 32768, model_class=ARCH_MODEL_REGISTRY[settings["_name"]])
    state = {"model": model.state_dict(), "cfg": {"model": settings}}
    assert f"{describe(state)['parameters'] / 1e6:.1f}" == millions
    if flags == ["--arch", "transformer_wmt_en_de"]:
        (row,) = matching(describe(state)["settings"])
        assert row["model"] == "Vanilla"


@pytest.mark.parametrize("flags", [{}, {"share_all_embeddings": False}, {**SIX_SETS, "encoder_unique_layers": 2}])
def test_parameters_are_those_that_the_model_logs(flags, caplog):
    with caplog.at_level("INFO", logger="b2t_fairseq"):
        model = make_model(**flags)
    logged = re.search(r"([\d,]+) parameters", caplog.text).group(1)
    settings = {**vars(model_settings(**flags)), "_name": "b2t_transformer"}
    diverged = {name: torch.full_like(tensor, torch.nan) for name, tensor in model.state_dict().items()}
    for state in (model.state_dict(), diverged):
        count = describe({"model": state, "cfg": {"model": settings}})["parameters"]
        assert f"{count:,}" == logged

"""The tables of docs/reproduction.md: every configuration is there, with what the papers say; sizes are true."""

import json
import re

import pytest
import torch
from helpers import ROOT
from training import SHARED, binarize, train, write_corpus

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from docs.build import summarize_run, tables_reproduction

PAGE = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
CONFIGS = sorted(path.stem for path in ROOT.glob("configs/wmt14_en_de/*.sh") if not path.name.startswith("_"))


def part(name):
    """Return a generated part."""
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end of {name} -->", PAGE, flags=re.DOTALL)[1]


def rows(name):
    """Return the cells of a generated table by configuration."""
    cells = [re.split(r" *\| *", line)[1:-1] for line in part(name).splitlines() if line.startswith("| [")]
    return {re.match(r"\[(\w+)\]", row[0])[1]: row for row in cells}


def test_every_configuration_is_in_the_tables():
    assert CONFIGS
    assert sorted(rows("configurations")) == sorted(rows("cost")) == CONFIGS
    for name, row in rows("configurations").items():
        assert row[3] == f"`bash scripts/train.sh configs/wmt14_en_de/{name}.sh`"


@pytest.mark.parametrize("name", CONFIGS)
def test_published_result_is_what_the_configuration_says(name):
    """The comment at a configuration's head and published.json were written independently."""
    comment = (ROOT / f"configs/wmt14_en_de/{name}.sh").read_text(encoding="utf-8")
    stated = re.search(r"Published average: ([\d.]+\d)", comment)
    shown = rows("configurations")[name][-1]
    if stated:
        assert shown == stated[1] == rows("published")[name][-2]
    else:
        expected = {"post_ln_18l": "fails to train", "b2t_100l": "-"}
        assert shown == expected.get(name, "not tried by the papers")


def test_iwslt14_table_is_what_the_configurations_say():
    """All of them are in it; the comment at a configuration's head and published.json were written independently."""
    paths = [path for path in ROOT.glob("configs/iwslt14_de_en/*.sh") if not path.name.startswith("_")]
    comments = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    stated = {name: re.search(r"Published: ([\d.]+\d)", comment) for name, comment in comments.items()}
    assert {name: row[-1] for name, row in rows("iwslt").items()} == {
        name: match[1] if match else "-" for name, match in stated.items()
    }
    assert sum(map(bool, stated.values())) == 2


def test_summary_of_a_run(tmp_path, monkeypatch):
    """The files of docs/results: the scores, and which text, model and training they are of."""
    run = tmp_path / "run"
    (run / "evaluation").mkdir(parents=True)
    (tmp_path / "data/clean").mkdir(parents=True)
    (run / "data.txt").write_text(f"{tmp_path}/data/bin\n")
    corpora = {"europarl": {"kept": 900, "pairs": 1000}, "news": {"kept": 95, "pairs": 100}}
    (tmp_path / "data/clean/train.json").write_text(json.dumps(corpora))
    report = '{"num_updates": "1200", "loss": "4.2", "wps": "5000", "train_wall": "630", "wall": "700"}'
    (run / "train.log").write_text(f"2026-01-01 00:00:00 | INFO | train_inner | {report}\n")
    scores = {"newstest2013": 20.125, "newstest2014": 22.0}
    sets = {name: {"metrics": {"BLEU": {"score": score, "signature": "v:2"}}} for name, score in scores.items()}
    content = {"sets": sets, "average": {"BLEU": 21.0625}, "parameters": 6001664}
    monkeypatch.setattr(summarize_run, "cores", lambda: "2 cores of a processor")
    with pytest.raises(InputError, match=r"has no scores; make them with: bash scripts/evaluate\.sh"):
        summarize_run.summary(run, "")
    (run / "evaluation/scores.json").write_text(json.dumps(content))
    table, about = summarize_run.summary(run, "idle").split("\n\n")
    assert table.splitlines()[::2] == ["| metric | 2013 | 2014 | average |", "| BLEU | 20.12 | 22.00 | 21.06 |"]
    assert about == (
        "995 of 1,100 pairs, 6,001,664 parameters, 1,200 updates in 10 minutes on 2 cores of a processor; idle. "
        "`BLEU|v:2`"
    )


def test_size_of_a_checkpoint(tmp_path):
    """Of a model with shared layers, trained in half precision: weights and moments once for each parameter."""
    write_corpus(tmp_path)
    flags = ("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "512", "--max-update", "1", "--bf16")
    state = train(binarize(tmp_path), tmp_path / "run", *SHARED, *flags, command=b2t_train)
    moments = state["last_optimizer_state"]["state"].values()
    parameters = sum(moment["exp_avg"].numel() for moment in moments)
    assert all(tensor.dtype == torch.float32 for tensor in state["model"].values())
    expected = tables_reproduction.checkpoint_bytes(parameters)
    # besides the tensors a checkpoint has settings, names and the state of the data
    rest = (tmp_path / "run/checkpoint_last.pt").stat().st_size - expected
    assert 0 < rest < 200_000
    assert expected > 2_500_000

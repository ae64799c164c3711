"""Benchmarks of training, with models so small that their numbers mean nothing; the tables of all committed results."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys

import pytest
from helpers import ROOT
from searching import make_sentences, make_translator, search

import benchmarks
from benchmarks import batch_filling, decoding_ceiling, growing, loss_curve, training_speed
from benchmarks.rewrite_tables import RESULTS, current_table
from benchmarks.synthetic_corpus import write_corpus

MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
COMMANDS = [name for name in MODULES if "\ndef main(" in (ROOT / f"benchmarks/{name}.py").read_text()]

TINY = ("--device", "cpu", "--layers", "1", "--width", "64", "--threads", "1")


def benchmark(name):
    """Import a benchmark; skip the test if a package is missing that only this benchmark needs."""
    if name == "ctranslate2_speed":
        pytest.importorskip("ctranslate2")
    return importlib.import_module(f"benchmarks.{name}")


def run(monkeypatch, folder, module, *flags: str) -> dict:
    """Run a benchmark in this process and return the result that it writes."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *flags, *TINY, "--output", str(folder / "result")])
    module.main()
    assert (folder / "result.md").read_text().count("\n| ") > 2
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_tables_are_those_of_the_results(path):
    result = json.loads(path.read_text())
    if "ctranslate2" in result["command"]:
        benchmark("ctranslate2_speed")
    text = path.with_suffix(".md").read_text()
    assert current_table(result) == text, "run python -m benchmarks.rewrite_tables"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(monkeypatch, capsys, name):
    module = benchmark(name)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    text = capsys.readouterr().out
    # the commands in the description are of this module
    assert re.findall(r"python -m ([\w.]+)", text)
    assert set(re.findall(r"python -m ([\w.]+)", text)) == {f"benchmarks.{name}"}


def test_the_package_names_all_its_modules():
    assert sorted(re.findall(r"``(\w+)``", benchmarks.__doc__)) == sorted([*MODULES, "training_speed"])


def test_training_speed_has_a_row_for_each_model(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.training_speed.LEAST_PAIRS", 1000)
    monkeypatch.setattr("benchmarks.peak_flops._REPETITIONS", 2)
    flags = ("--sizes", "6l", "shared_12", "--vocabulary", "200", "--rounds", "1", "--warmup", "0")
    result = run(monkeypatch, tmp_path, training_speed, *flags, "--max-tokens", "512", "--update-tokens", "1024")
    rows = {(row["size"], row["variant"]): row for row in result["rows"]}
    assert list(rows) == [
        ("6l", "fairseq transformer"),
        ("6l", "--residual post_ln"),
        ("6l", "--residual b2t"),
        ("shared_12", "fairseq transformer"),
        ("shared_12", "--residual post_ln --layer-sharing cycle_rev, M=1"),
    ]
    for (_, variant), row in rows.items():
        assert 0 < row["speed_ratio"] < math.inf
        assert 0 < row["memory_ratio"] < math.inf
        assert 0 < row["flops_utilization"] <= 1
        assert (row["time_ratio_to_post_ln"] is not None) == (variant == "--residual b2t")
        if variant == "--residual b2t":
            low, high = row["time_ratio_to_post_ln_quartiles"]
            assert low <= row["time_ratio_to_post_ln"] <= high
    for size in ("6l", "shared_12"):
        baseline = rows[size, "fairseq transformer"]
        assert baseline["speed_ratio"] == baseline["memory_ratio"] == 1
        # weights, gradients and Adam's two moments are the least that there is
        assert baseline["peak_bytes"] > 4 * 4 * baseline["parameters"]


def test_both_models_train_the_same(monkeypatch, tmp_path):
    write_corpus(tmp_path, pairs=400, vocabulary=200)
    result = run(monkeypatch, tmp_path, loss_curve, str(tmp_path), "--updates", "40", "--max-tokens", "512")
    baseline, ours, disturbed = result["curves"].values()
    assert len(baseline) == len(ours) == len(disturbed) == 40
    assert baseline[-1] < baseline[0]
    # float32 has 7 digits
    assert ours == pytest.approx(baseline, rel=1e-4)
    assert disturbed == pytest.approx(baseline, rel=1e-4)
    assert disturbed != baseline
    assert set(result["differences"]) == set(result["curves"]) - {"fairseq transformer"}


def test_the_ceiling_of_decoding_computes_each_product_once():
    """A step has six linear maps and four products of attention in each layer, and the output layer."""
    model, batch = make_translator(), make_sentences(count=2)
    search(model, batch)
    with decoding_ceiling.Recording() as recording:
        hypotheses = search(model, batch)
    steps = max(len(hypothesis["tokens"]) for each in hypotheses for hypothesis in each)
    layers = model.decoder.num_layers
    kinds = [call.func._schema.name for call in recording.calls]
    assert kinds.count("aten::baddbmm") == 2 * layers * steps
    # the encoder's attention is one operator with a map before and after it; cross-attention has one of the source
    encoder = 5 * model.encoder.num_layers + layers
    assert len(kinds) == encoder + (10 * layers + 1) * steps
    for call in recording.calls:
        call()


def test_counts_of_batches_are_those_of_their_sentences():
    model, batch, counts = make_translator(), make_sentences(), batch_filling.Counts()
    with batch_filling.counting(counts):
        hypotheses = search(model, batch)
    longest = [max(len(hypothesis["tokens"]) for hypothesis in each) for each in hypotheses]
    assert counts.unfinished == sum(longest) <= counts.computed <= len(longest) * max(longest)
    assert len(counts.steps) == max(longest)
    assert counts.padded - counts.tokens == int(batch["net_input"]["src_tokens"].eq(1).sum())


def test_growing_gives_both_models_the_same_flops(monkeypatch, tmp_path):
    """The runs are not trained here: each one gets a curve that ends at its number of updates."""
    write_corpus(tmp_path, pairs=400, vocabulary=200)
    runs = {}

    def train(folder, args, flags, updates):
        runs[folder.name] = (flags, updates)

    monkeypatch.setattr(growing, "train", train)
    monkeypatch.setattr(growing, "grow", lambda run, number, order: run / f"{order}.pt")
    monkeypatch.setattr(growing, "curve", lambda folder: [(runs[folder.name][1], 50.0)])
    flags = [str(tmp_path), "--runs", str(tmp_path / "runs"), "--updates", "100", "--output", str(tmp_path / "result")]
    monkeypatch.setattr(sys, "argv", ["growing", *flags])
    growing.main()
    result = json.loads((tmp_path / "result.json").read_text())
    assert 0.5 < result["flops_ratio"] < 0.7, "the output layer costs the same at any depth"
    updates = {name: updates for name, (_, updates) in runs.items()}
    assert updates == {"shallow": 100, "grown": 100, "deep": round(100 * (1 + result["flops_ratio"]))}
    assert runs["grown"][0][-2:] == ["--finetune-from-model", str(tmp_path / "runs/seed3/shallow/cycle.pt")]
    depths = {name: given[len(given) - given[::-1].index("--encoder-layers")] for name, (given, _) in runs.items()}
    assert depths == {"shallow": "3", "grown": "6", "deep": "6"}
    assert "| mean | 50.00 | 50.00 | 50.00 | +0.00 \N{PLUS-MINUS SIGN} 0.00 |" in (tmp_path / "result.md").read_text()

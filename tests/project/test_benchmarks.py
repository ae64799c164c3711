"""Benchmarks of training, with models so small that their numbers mean nothing; the tables of all committed results."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys

import pytest
from helpers import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import loss_curve
import training_speed
from synthetic_corpus import write_corpus

RESULTS = sorted((ROOT / "benchmarks/results").glob("*.json"))
TEXTS = {"prepare_at_scale": "markdown", "recompilations": "sentence"}  # functions that are not called table

TINY = ("--device", "cpu", "--layers", "1", "--width", "64", "--threads", "1")


def run(monkeypatch, folder, script, *flags: str) -> dict:
    """Run a benchmark in this process and return the result that it writes."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *flags, *TINY, "--output", str(folder / "result")])
    script.main()
    assert (folder / "result.md").read_text().count("\n| ") > 2
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_tables_are_those_of_the_results(path):
    result = json.loads(path.read_text())
    name = re.search(r"benchmarks/(\w+)\.py", result["command"])[1]
    if name == "ctranslate2_speed":
        pytest.importorskip("ctranslate2")
    text = getattr(importlib.import_module(name), TEXTS.get(name, "table"))
    assert text(result) == path.with_suffix(".md").read_text()


def test_training_speed_has_a_row_for_each_model(monkeypatch, tmp_path):
    monkeypatch.setattr("training_speed.LEAST_PAIRS", 1000)
    monkeypatch.setattr("peak_flops._REPETITIONS", 2)
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

"""Checkpoints and a run's folder that version 0.1.0 wrote are read as it read them: no number has changed.

Rounding differs between processors by up to 2.4e-6 in logits, hence 1e-5.  A continued run moves further, since Adam
divides by small numbers: by 1.8e-4 with other instructions or two threads, and by 0.014 and more with a real mistake
(another seed of the dropout, the data from the start of the epoch, a new optimizer), hence 1e-3.
"""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
from earlier_data import write_earlier_data
from fairseq import checkpoint_utils
from helpers import ROOT
from training import load

from b2t_cli import main as b2t
from b2t_cli.runs.checkpoint_model import describe
from b2t_fairseq import checkpoints
from b2t_fairseq.hub import from_pretrained

EARLIER = ROOT / "tests/golden/version_0_1_0"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_earlier_data(tmp_path_factory.mktemp("earlier"))


@pytest.mark.parametrize("kernels", ["fast", "fairseq"])
@pytest.mark.parametrize(
    ("name", "folder", "batch"),
    [
        ("translation", ".", "translation"),
        ("admin", ".", "translation"),
        ("lm", "lm", "lm"),
        ("speech", "speech", "speech"),
    ],
)
def test_logits_are_those_of_version_0_1_0(name, folder, batch, kernels):
    arrays = np.load(EARLIER / "batches.npz")
    names = ("src_tokens", "src_lengths", "prev_output_tokens")
    net_input = {key: torch.from_numpy(arrays[f"{batch}.{key}"]) for key in names if f"{batch}.{key}" in arrays}
    if name == "speech":
        net_input["src_tokens"] = net_input["src_tokens"].float() / 8
    overrides = {"data": str(EARLIER / folder), "kernels": kernels}
    if folder == ".":
        overrides |= {"source_lang": "en", "target_lang": "de"}
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(EARLIER / f"{name}.pt")], overrides)
    with torch.no_grad():
        logits = model.eval()(**net_input)[0].numpy()
    real = net_input.get("prev_output_tokens", net_input["src_tokens"]).numpy() != 1
    expected = np.load(EARLIER / "logits.npz")[f"{name}.{kernels}"]
    assert np.abs(logits - expected)[real].max() < 1e-5


@pytest.mark.parametrize("kernels", ["fast", "fairseq"])
def test_translations_are_those_of_version_0_1_0(data, kernels, capsys):
    flags = ["--path", str(EARLIER / "translation.pt"), "--beam", "4", "--lenpen", "0.6", "--max-len-b", "12", "--cpu"]
    flags += ["--required-batch-size-multiple", "1", "--num-workers", "0"]
    assert b2t(["generate", str(data), *flags, "--model-overrides", f"{{'kernels': '{kernels}'}}"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.startswith("H-")]
    lines.sort(key=lambda fields: int(fields[0][2:]))
    expected = [line.split("\t") for line in (EARLIER / f"translation.{kernels}.txt").read_text().splitlines()]
    assert [(number, text) for number, _, text in lines] == [(number, text) for number, _, text in expected]
    for (_, score, _), (_, expected_score, _) in zip(lines, expected, strict=True):
        assert abs(float(score) - float(expected_score)) < 1e-5


def test_translations_in_python_are_those_of_version_0_1_0():
    model = from_pretrained(EARLIER / "translation.pt", source_lang="en", target_lang="de")
    sentences = (EARLIER / "test.en").read_text().splitlines()
    expected = [line.split("\t")[2] for line in (EARLIER / "translation.fast.txt").read_text().splitlines()]
    assert model.translate(sentences, beam=4, lenpen=0.6, max_len_b=12) == expected


def test_a_run_goes_on(data, tmp_path):
    """Seven more updates, over the end of an epoch, give the weights of the run that was not interrupted."""
    (tmp_path / "run").mkdir()
    shutil.copy(EARLIER / "translation.pt", tmp_path / "run/checkpoint_last.pt")
    command = (EARLIER / "resume/command.txt").read_text().replace("SAVE_DIR", str(tmp_path / "run"))
    assert b2t(shlex.split(command.replace("data/bin", str(data)))[1:]) == 0
    state = load(tmp_path / "run/checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 409
    expected = np.load(EARLIER / "resume/weights_after.npz")
    names = str(expected["names"]).split("\n")
    weights = np.concatenate([state["model"][name].numpy().ravel() for name in names])
    assert np.abs(weights - expected["weights"]).max() < 1e-3


def cells(text):
    """Return the cells of the only run in a table, by the titles of their columns."""
    titles, row = re.findall(r"^(?:run|configuration)  .*$", text, re.MULTILINE)[:2]
    return dict(zip(*(re.split("  +", line) for line in (titles, row)), strict=True))


@pytest.mark.parametrize("command", [["report", "--text"], ["table"]])
def test_the_tables_of_a_run(command, monkeypatch, capsys):
    """They have every column that they had."""
    monkeypatch.chdir(EARLIER)
    assert b2t([*command, "run"]) == 0
    earlier = cells((EARLIER / f"run.{command[0]}.txt").read_text())
    assert cells(capsys.readouterr().out).items() >= earlier.items()


def test_the_model_of_a_run():
    scores = json.loads((EARLIER / "run/evaluation/scores.json").read_text())
    state = checkpoints.load(EARLIER / "run/evaluation/averaged.pt")
    assert describe(state) == {name: scores[name] for name in ("parameters", "layers", "unique_layers", "settings")}


def test_checkpoints_of_a_run_are_averaged(tmp_path):
    files = [EARLIER / "run/checkpoint_last.pt", EARLIER / "run/evaluation/averaged.pt"]
    assert b2t(["average", *map(str, files), "--output", str(tmp_path / "mean.pt")]) == 0
    first, second, mean = (load(path)["model"] for path in (*files, tmp_path / "mean.pt"))
    for name, tensor in mean.items():
        assert torch.allclose(tensor, (first[name] + second[name]) / 2), name

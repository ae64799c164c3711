"""scripts/train.sh on a small corpus: one run in a folder, which ends with a checkpoint."""

import subprocess

import pytest
from commands import BIN, environment, script
from helpers import ROOT
from planning import machine
from training import binarize, load, write_corpus
from wmt import SMALL_CONFIG


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The small corpus in a folder whose name has a blank."""
    folder = tmp_path_factory.mktemp("corpus with a blank")
    write_corpus(folder)
    binarize(folder)
    return folder


@pytest.mark.slow
def test_two_processes_by_torchrun(corpus, tmp_path):
    """torchrun starts the script twice, and both processes make the updates of one process with --update-freq 2."""
    (tmp_path / "config.sh").write_text(SMALL_CONFIG)
    data = ("--data", corpus / "bin")
    torchrun = f"{BIN}/python -m torch.distributed.run --standalone --nproc-per-node 2 --no-python"
    train = ["bash", ROOT / "scripts/train.sh", tmp_path / "config.sh", *data, "--save-dir", tmp_path / "two"]
    command = [*torchrun.split(), *map(str, train)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment())
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 process(es) on the CPU; updates of 320 tokens = 2 x 160 x 1" in result.stdout
    two = load(tmp_path / "two/checkpoint_last.pt")
    assert two["optimizer_history"][-1]["num_updates"] == 6
    log = (tmp_path / "two/train.log").read_text()
    assert "distributed world size 2" in log or "'distributed_world_size': 2" in log
    assert log.count("Start iterating over samples") == log.count("begin training epoch")
    script("train.sh", tmp_path / "config.sh", *data, "--save-dir", tmp_path / "one", "--cpu")
    one = load(tmp_path / "one/checkpoint_last.pt")
    assert one["optimizer_history"][-1]["num_updates"] == 6
    assert list(one["cfg"]["optimization"]["update_freq"]) == [2]
    for name, tensor in one["model"].items():
        if tensor.numel() > 1:
            assert (tensor - two["model"][name]).abs().max() < 1e-4, name
    assert list((tmp_path / "one/tensorboard").rglob("events*"))


@pytest.mark.slow
def test_a_folder_holds_one_run(corpus, tmp_path):
    """A second one at the same time or with other settings is refused; a finished one is left alone."""
    (tmp_path / "config.sh").write_text(SMALL_CONFIG.replace("max_update=6", "max_update=1"))
    arguments = (tmp_path / "config.sh", "--data", corpus / "bin", "--save-dir", tmp_path / "run", "--cpu")
    script("train.sh", *arguments)
    before = (tmp_path / "run/checkpoint_last.pt").read_bytes()
    locked = ["flock", str(tmp_path / "run/.lock"), "bash", str(ROOT / "scripts/train.sh"), *map(str, arguments)]
    result = subprocess.run(locked, capture_output=True, text=True, env=environment())
    assert result.returncode == 1
    assert "a run is at work" in result.stderr
    # --reset-dataloader does not make it another run
    assert "nothing to do" in script("train.sh", *arguments, "--reset-dataloader").stdout
    result = script("train.sh", *arguments, "--lr", "0.1", check=False)
    assert result.returncode == 1
    assert "was begun with other settings" in result.stdout
    assert (tmp_path / "run/checkpoint_last.pt").read_bytes() == before


def test_the_papers_updates_are_refused_on_a_cpu(tmp_path):
    """They would take minutes each; --cpu says that this is wanted."""
    config = ROOT / "configs/wmt14_en_de/b2t_18l.sh"
    arguments = ("train.sh", config, "--data", tmp_path, "--save-dir", tmp_path / "run")
    result = script(*arguments, check=False, PATH=machine(tmp_path, gpus=0))
    assert result.returncode == 1
    assert "no GPU is visible here, and a CPU needs many minutes for one update of 458752 tokens" in result.stdout
    # Then the next error is found.
    result = script(*arguments, "--cpu", check=False, PATH=machine(tmp_path, gpus=0))
    assert "no binary data" in result.stdout
    assert not (tmp_path / "run").exists()


def test_training_without_any_checkpoint_is_an_error(corpus, tmp_path):
    (tmp_path / "config.sh").write_text(SMALL_CONFIG)
    arguments = ("--data", corpus / "bin", "--save-dir", tmp_path / "run", "--cpu", "--max-epoch", "1")
    arguments += ("--no-last-checkpoints", "--no-epoch-checkpoints", "--disable-validation")
    result = script("train.sh", tmp_path / "config.sh", *arguments, check=False)
    assert result.returncode == 1
    assert "training ended without any checkpoint" in result.stdout

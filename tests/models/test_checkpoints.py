"""Checkpoints are data, whole or nothing: code in one is not run, and half of one is not taken for a whole one."""

import pickle
from collections import OrderedDict

import pytest
import torch
from attacks import Attack
from commands import run
from disk import full_after
from fairseq.checkpoint_utils import PathManager
from training import PLUGIN, SHARED, load, train

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints


class TestCheckpointThatCarriesCode:
    @pytest.fixture
    def attack(self, tmp_path):
        """A checkpoint that would make a folder; at the end of the test there must be none."""
        path = tmp_path / "checkpoint_last.pt"
        torch.save({"model": OrderedDict(), "cfg": Attack(tmp_path / "ran"), "args": None}, path)
        yield path
        assert not (tmp_path / "ran").exists()

    def test_the_attack_would_work_without_our_loader(self, tmp_path):
        pickle.loads(pickle.dumps(Attack(tmp_path / "ran")))
        assert (tmp_path / "ran").exists()

    def test_our_loader_refuses_it(self, attack):
        with pytest.raises(ValueError, match="holds more than tensors and settings"):
            checkpoints.load(attack)

    def test_our_commands_refuse_it(self, attack, tmp_path, capsys):
        assert b2t(["average", str(attack), "--output", str(tmp_path / "x.pt")]) == 1
        assert "is not opened" in capsys.readouterr().err

    def test_fairseq_generate_refuses_it(self, attack, corpus):
        flags = ["--user-dir", PLUGIN, "--path", str(attack), "--cpu"]
        result = run("fairseq-generate", str(corpus / "bin"), *flags, check=False)
        assert result.returncode != 0
        assert "weights_only" in result.stdout + result.stderr

    def test_a_run_does_not_resume_from_it(self, attack, corpus, tmp_path):
        with pytest.raises(ValueError, match="is not opened"):
            train(str(corpus / "bin"), tmp_path, "--max-update", "1", command=b2t_train)
        with pytest.raises(pickle.UnpicklingError):
            train(str(corpus / "bin"), tmp_path, "--max-update", "1")


class TestHalfFiles:
    def test_a_checkpoint_that_is_cut_short_is_refused(self, tmp_path):
        checkpoints.save({"model": {"a": torch.zeros(1000)}}, tmp_path / "whole.pt")
        content = (tmp_path / "whole.pt").read_bytes()
        for length in (0, 10, len(content) // 2, len(content) - 1):
            (tmp_path / "half.pt").write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"half\.pt is not a whole checkpoint"):
                checkpoints.load(tmp_path / "half.pt")

    def test_another_file_is_refused(self, tmp_path):
        torch.save([1, 2], tmp_path / "list.pt")
        with pytest.raises(ValueError, match="not a fairseq checkpoint"):
            checkpoints.load(tmp_path / "list.pt")
        with pytest.raises(InputError, match=r"none\.pt: no such checkpoint"):
            checkpoints.load(tmp_path / "none.pt")

    def test_a_full_disk_leaves_the_old_checkpoint(self, tmp_path):
        """No half file is left either, neither by saving nor by copying."""
        checkpoints.save({"model": {"a": torch.zeros(3)}}, tmp_path / "model.pt")
        with full_after(20_000), pytest.raises(OSError, match=r"model\.pt|large|space"):
            checkpoints.save({"model": {"a": torch.zeros(100_000)}}, tmp_path / "model.pt")
        (tmp_path / "source").write_bytes(b"x" * 10_000)
        with full_after(5_000), pytest.raises(OSError, match=r"large|space"):
            checkpoints.copy_whole(str(tmp_path / "source"), str(tmp_path / "model.pt"), overwrite=True)
        assert checkpoints.load(tmp_path / "model.pt")["model"]["a"].shape == (3,)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["model.pt", "source"]

    def test_fairseq_copies_checkpoints_with_our_function(self):
        assert PathManager.copy is checkpoints.copy_whole

    def test_training_on_a_full_disk_keeps_the_last_checkpoint(self, corpus, tmp_path, monkeypatch):
        train(str(corpus / "bin"), tmp_path, "--max-update", "1")
        before = (tmp_path / "checkpoint_last.pt").read_bytes()
        with monkeypatch.context() as patch, full_after(len(before) // 2):
            patch.setattr("time.sleep", lambda seconds: None)  # fairseq tries three times, seconds apart
            with pytest.raises((OSError, RuntimeError)):
                train(str(corpus / "bin"), tmp_path, "--max-update", "2")
        assert (tmp_path / "checkpoint_last.pt").read_bytes() == before
        assert train(str(corpus / "bin"), tmp_path, "--max-update", "2")["optimizer_history"][-1]["num_updates"] == 2


def test_checkpoints_of_training_load_with_weights_only(corpus, tmp_path):
    train(str(corpus / "bin"), tmp_path, *SHARED, "--max-update", "1")
    load(tmp_path / "checkpoint_last.pt")

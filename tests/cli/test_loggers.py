"""TensorBoard and Weights & Biases show one curve of a run, also after an interruption."""

import os
from types import SimpleNamespace

import pytest
from fairseq.logging import progress_bar
from stopped import stopped_at
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training import load, train

from b2t_cli.fairseq_commands import weights_and_biases
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.upstream import loggers, stopping

SMALL = ["--encoder-layers", "1", "--decoder-layers", "1", "--max-update"]
WANDB = ["--wandb-project", "b2t-tests", *SMALL]


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch):
    """Later runs in this process do not stop, and know no run of Weights & Biases."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    yield
    stopping._asked.clear()
    loggers.begin_after(0)


def curve(folder):
    """Return the updates of which TensorBoard shows the loss."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [scalar.step for scalar in events.Scalars("loss")]


def test_tensorboard_shows_each_update_once(data, tmp_path):
    """A kill loses the updates after the last checkpoint, and the run makes them again."""
    flags = ["--tensorboard-logdir", str(tmp_path / "curves"), "--save-interval-updates", "3", "--no-epoch-checkpoints"]
    train(data, tmp_path, *flags, *SMALL, "4", command=b2t_train)
    # as if it had been killed after update 4
    (killed,) = tmp_path.glob("checkpoint_*_3.pt")
    killed.rename(tmp_path / "checkpoint_last.pt")
    train(data, tmp_path, *flags, *SMALL, "7", command=b2t_train)
    assert curve(tmp_path / "curves/train_inner") == [1, 2, 3, 4, 5, 6, 7]
    # at the end of an epoch, and where checkpoints are written
    assert curve(tmp_path / "curves/valid") == [3, 5, 6, 7]


class StandIn(SimpleNamespace):
    """What fairseq and the plugin call of the library ``wandb``, recorded."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__(errors=SimpleNamespace(Error=self.Error), run=None, runs=[], ends=[])

    def init(self, project, reinit, name):
        if self.run is None:
            self.run = SimpleNamespace(id=os.environ["WANDB_RUN_ID"], steps=[])
            self.runs.append(self.run)
            self.config = self

    def update(self, config, allow_val_change=False):
        assert allow_val_change

    def log(self, values, step):
        if "train_inner/loss" in values:
            self.run.steps.append(step)

    def finish(self, exit_code):
        self.ends.append(exit_code)
        self.run = None


def settings():
    """Return what is read of the settings of a training with ``--wandb-project``."""
    return SimpleNamespace(
        common=SimpleNamespace(wandb_project="mine"),
        checkpoint=SimpleNamespace(no_save=False),
        distributed_training=SimpleNamespace(distributed_rank=0),
    )


class TestWeightsAndBiases:
    def test_a_run_that_continues_is_one_run_there(self, data, tmp_path, monkeypatch):
        """Another run has another name there; the environment is as before."""
        library = StandIn()
        monkeypatch.setattr(progress_bar, "wandb", library)
        before = dict(os.environ)
        assert stopped_at(2, monkeypatch, data, tmp_path / "run", *WANDB, "4") == stopping.EXIT_STATUS
        train(data, tmp_path / "run", *WANDB, "4", command=b2t_train)
        train(data, tmp_path / "other", *WANDB, "1", command=b2t_train)
        first, second, other = library.runs
        assert first.id == second.id == (tmp_path / "run/wandb_id.txt").read_text().strip() != other.id
        assert first.steps + second.steps == [1, 2, 3, 4]
        assert library.ends == [0, 0, 0]
        assert dict(os.environ) == before

    def test_an_identifier_of_the_user_wins(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_RUN_ID", "mine")
        with weights_and_biases.identified(settings(), tmp_path, False):
            assert os.environ["WANDB_RUN_ID"] == "mine"
            assert os.environ["WANDB_DIR"] == str(tmp_path)
        assert "WANDB_DIR" not in os.environ
        assert not list(tmp_path.iterdir())

    def test_a_library_that_refuses_is_an_error_in_one_line(self, monkeypatch):
        library = StandIn()
        monkeypatch.setattr(progress_bar, "wandb", library)
        message = r"--wandb-project mine: no API key; log in \(wandb login\), or set WANDB_MODE=offline"
        with pytest.raises(InputError, match=message), weights_and_biases.ended(settings()):
            raise library.Error("no API key")

    @pytest.mark.slow
    @pytest.mark.skipif(progress_bar.wandb is None, reason="needs wandb: pip install 'b2t_fairseq[wandb]'")
    def test_the_real_library_writes_one_run_offline(self, data, tmp_path, monkeypatch):
        """--max-update may change; the files are in the folder of the run."""
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
        ends, finish = [], progress_bar.wandb.finish

        def finish_and_tell(exit_code):
            ends.append((progress_bar.wandb.run.step, "train_inner/loss" in dict(progress_bar.wandb.run.summary)))
            finish(exit_code=exit_code)

        monkeypatch.setattr(progress_bar.wandb, "finish", finish_and_tell)
        for updates in ("2", "4"):
            train(data, tmp_path, *WANDB, updates, command=b2t_train)
        assert ends == [(2, True), (4, True)]
        identifier = (tmp_path / "wandb_id.txt").read_text().strip()
        folders = list((tmp_path / "wandb").glob(f"offline-run-*-{identifier}"))
        assert len(folders) == 2
        for folder in folders:
            assert (folder / f"run-{identifier}.wandb").stat().st_size > 1000
        assert load(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 4

"""The same command continues a run from its own checkpoint, and leaves a run alone that has ended by itself."""

import shlex

import pytest
import torch
from stopped import status, stopped_at, updates
from training import MODEL_FLAGS, SHARED, TRAIN_FLAGS, assert_same_model, load, train

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.upstream import stopping

RESETS = ["--reset-optimizer", "--reset-lr-scheduler", "--reset-dataloader", "--reset-meters"]
STOPPED = stopping.EXIT_STATUS
# The first loss stays the "best" one, since the larger is taken for the better and it falls: 15 updates in 3 epochs.
PATIENCE = shlex.split("--patience 2 --maximize-best-checkpoint-metric --max-epoch 9 --no-epoch-checkpoints")


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Later runs in this process do not stop."""
    yield
    stopping._asked.clear()


@pytest.fixture(scope="module")
def other(data, tmp_path_factory):
    """The folder of a run of two epochs, of five updates each, and of the average of its checkpoints."""
    folder = tmp_path_factory.mktemp("other")
    train(data, folder, "--max-epoch", "2", command=b2t_train)
    b2t(["average", str(folder), "--last", "2", "--output", str(folder / "averaged.pt")])
    return folder


class TestBeginningWithACheckpoint:
    @pytest.mark.parametrize(
        ("name", "flags", "last"),
        [
            pytest.param("checkpoint_last.pt", ["--restore-file", *RESETS], 7, marks=pytest.mark.slow),
            ("checkpoint_last.pt", ["--restore-file"], 14),
            ("averaged.pt", ["--finetune-from-model"], 7),
        ],
        ids=["with-resets", "as-it-is", "fine-tuning"],
    )
    def test_a_stopped_run_continues_from_its_own(self, data, other, tmp_path, monkeypatch, name, flags, last):
        """It ends with the weights of a run that was not stopped, although the named file is gone."""
        begin = tmp_path / "begin.pt"
        begin.write_bytes((other / name).read_bytes())
        flags = [flags[0], str(begin), *flags[1:], "--max-update", str(last)]
        whole = train(data, tmp_path / "whole", *flags, command=b2t_train)
        assert stopped_at(last - 3, monkeypatch, data, tmp_path / "run", *flags) == STOPPED
        assert updates(tmp_path / "run") == last - 3
        begin.unlink()
        assert stopped_at(last - 1, monkeypatch, data, tmp_path / "run", *flags) == STOPPED
        assert updates(tmp_path / "run") == last - 1
        assert status(data, tmp_path / "run", *flags) == 0
        assert updates(tmp_path / "run") == last
        assert_same_model(whole, load(tmp_path / "run/checkpoint_last.pt"))

    def test_resets_of_the_own_checkpoint_happen_once(self, data, tmp_path, monkeypatch, capsys):
        train(data, tmp_path, "--max-update", "4", command=b2t_train)
        flags = ["--max-update", "6", "--reset-optimizer"]
        assert stopped_at(2, monkeypatch, data, tmp_path, *flags) == STOPPED
        assert updates(tmp_path) == 2
        assert status(data, tmp_path, *flags) == 0
        assert updates(tmp_path) == 6
        assert "--reset-optimizer had its effect when the run began" in capsys.readouterr().out

    def test_a_run_goes_back_to_an_older_checkpoint_once(self, data, tmp_path, monkeypatch):
        train(data, tmp_path, "--max-update", "8", "--save-interval-updates", "3", command=b2t_train)
        older = str(tmp_path / "checkpoint_1_3.pt")
        flags = ["--max-update", "8", "--restore-file", older, "--save-interval-updates", "100"]
        before = load(tmp_path / "checkpoint_last.pt")
        assert stopped_at(6, monkeypatch, data, tmp_path, *flags) == STOPPED
        assert updates(tmp_path) == 6
        assert status(data, tmp_path, *flags) == 0
        assert_same_model(before, load(tmp_path / "checkpoint_last.pt"))

    @pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model", "--continue-once"])
    def test_a_folder_with_a_run_that_began_otherwise_is_refused(self, data, other, tmp_path, flag):
        train(data, tmp_path, "--max-update", "1", command=b2t_train)
        before = (tmp_path / "checkpoint_last.pt").read_bytes()
        with pytest.raises(InputError, match=f"{flag} .* holds a run that began with random weights"):
            train(data, tmp_path, "--max-update", "2", flag, str(other / "checkpoint_last.pt"), command=b2t_train)
        assert (tmp_path / "checkpoint_last.pt").read_bytes() == before

    @pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model", "--continue-once"])
    def test_a_checkpoint_that_is_missing_is_refused(self, data, tmp_path, flag):
        (tmp_path / "of_the_run.pt").write_bytes(b"")
        with pytest.raises(InputError, match=rf"{flag} checkpoint_bset\.pt: no such checkpoint$"):
            train(data, tmp_path, flag, "checkpoint_bset.pt", command=b2t_train)
        with pytest.raises(InputError, match=f"no such checkpoint; {tmp_path}/of_the_run.pt exists"):
            train(data, tmp_path, flag, "of_the_run.pt", command=b2t_train)

    def test_two_beginnings_are_refused(self, data, other, tmp_path):
        flags = ["--restore-file", str(other / "checkpoint1.pt"), "--finetune-from-model", str(other / "averaged.pt")]
        with pytest.raises(InputError, match="a run begins with one checkpoint"):
            train(data, tmp_path, *flags, command=b2t_train)
        with pytest.raises(InputError, match="--reset-meters: --finetune-from-model takes nothing but the weights"):
            train(data, tmp_path, *flags[2:], "--reset-meters", command=b2t_train)

    def test_nothing_but_weights_is_no_whole_checkpoint(self, data, other, tmp_path):
        with pytest.raises(InputError, match=r"averaged\.pt has no state of the optimizer .*--finetune-from-model"):
            train(data, tmp_path, "--restore-file", str(other / "averaged.pt"), command=b2t_train)

    def test_a_checkpoint_with_which_nothing_is_left_to_train_is_refused(self, data, other, tmp_path):
        flags = ["--restore-file", str(other / "checkpoint_last.pt"), "--max-epoch", "2"]
        with pytest.raises(InputError, match="has its 2 epochs: nothing is left to train"):
            train(data, tmp_path, *flags, command=b2t_train)

    @pytest.mark.parametrize("precision", [[], ["--bf16"]], ids=["float32", "bf16"])
    def test_another_optimizer_is_refused_in_one_line(self, data, tmp_path, precision):
        """In half precision too, where fairseq compares nothing but the classes that wrap the optimizers."""
        train(data, tmp_path / "adam", *precision, "--max-update", "1", command=b2t_train)
        adam = "--optimizer adam --adam-betas '(0.9, 0.98)'"
        basis = shlex.split(shlex.join(MODEL_FLAGS + TRAIN_FLAGS).replace(adam, "--optimizer nag"))
        flags = ["--restore-file", str(tmp_path / "adam/checkpoint_last.pt"), *precision]
        reason = r"cannot be used: Optimizer does not match.*FairseqAdam.*counts the updates from 0"
        with pytest.raises(InputError, match=reason):
            train(data, tmp_path / "nag", *flags, command=b2t_train, basis=basis)


class TestWhatIsSavedWhenStopped:
    @pytest.mark.parametrize("flag", ["--no-last-checkpoints", "--no-save-optimizer-state"])
    def test_all_that_is_needed_to_continue(self, data, tmp_path, monkeypatch, flag):
        """The run ends as one that was not stopped, with the same files, and is left alone then."""
        flags = [*SHARED, flag, "--max-update", "7"]
        status(data, tmp_path / "whole", *flags)
        assert stopped_at(3, monkeypatch, data, tmp_path / "run", *flags) == STOPPED
        assert status(data, tmp_path / "run", *flags) == 0
        names = [sorted(path.name for path in (tmp_path / run).glob("*.pt")) for run in ("whole", "run")]
        assert names[0] == names[1]
        newest = "checkpoint_best.pt" if flag == "--no-last-checkpoints" else "checkpoint_last.pt"
        whole, resumed = (load(tmp_path / run / newest) for run in ("whole", "run"))
        assert_same_model(whole, resumed)
        assert ("last_optimizer_state" in resumed) == ("last_optimizer_state" in whole)
        before = (tmp_path / "run" / newest).stat().st_mtime_ns
        assert status(data, tmp_path / "run", *flags) == 0
        assert (tmp_path / "run" / newest).stat().st_mtime_ns == before

    def test_without_saving_the_exit_status_does_not_promise_anything(self, data, tmp_path, monkeypatch, capsys):
        assert stopped_at(2, monkeypatch, data, tmp_path / "run", "--no-save", "--max-update", "9") == 1
        assert "nothing was saved" in capsys.readouterr().out
        assert not list((tmp_path / "run").glob("*.pt"))

    def test_a_run_without_optimizer_state_that_was_not_stopped_does_not_continue(self, data, tmp_path):
        flags = ["--no-save-optimizer-state", "--max-update"]
        train(data, tmp_path, *flags, "2", command=b2t_train)
        with pytest.raises(InputError, match=r"no state of the optimizer .* no run can continue after its update 2"):
            train(data, tmp_path, *flags, "4", command=b2t_train)
        assert updates(tmp_path) == 2
        train(data, tmp_path, *flags, "4", "--reset-optimizer", command=b2t_train)
        assert updates(tmp_path) == 4

    def test_files_that_a_killed_process_left_are_removed(self, data, tmp_path):
        left = [tmp_path / "checkpoint_1_3.pt.tmp", tmp_path / "checkpoint_last.pt.tmp4711"]
        for path in left:
            path.write_bytes(b"half")
        train(data, tmp_path, "--max-update", "1", command=b2t_train)
        assert not any(path.exists() for path in left)


class TestEnds:
    def test_patience_belongs_to_the_run(self, data, tmp_path, monkeypatch):
        """A run that is stopped between two validations ends after as many as one that is not."""
        whole = train(data, tmp_path / "whole", *PATIENCE, command=b2t_train)
        assert updates(tmp_path / "whole") == 15
        assert whole["extra_state"]["b2t_run"]["patience"]["num_runs"] == 2
        for update in (10, 13):
            assert stopped_at(update, monkeypatch, data, tmp_path / "run", *PATIENCE) == STOPPED
        assert load(tmp_path / "run/checkpoint_last.pt")["extra_state"]["b2t_run"]["patience"]["num_runs"] == 1
        assert status(data, tmp_path / "run", *PATIENCE) == 0
        assert updates(tmp_path / "run") == 15
        assert_same_model(whole, load(tmp_path / "run/checkpoint_last.pt"))
        # Another run in this process begins to count.
        fresh = train(data, tmp_path / "fresh", *PATIENCE, "--max-epoch", "1")
        assert fresh["extra_state"]["b2t_run"]["patience"]["num_runs"] == 0

    @pytest.mark.parametrize(
        ("flags", "reason"),
        [
            ("--max-update 3", "has its 3 updates"),
            pytest.param("--max-epoch 1", "has its 1 epochs", marks=pytest.mark.slow),
            (shlex.join(PATIENCE), "has not improved for 2 validations"),
            ("--lr-scheduler fixed --lr 0.01,1e-9 --stop-min-lr 1e-8", "has still 10 updates"),
        ],
        ids=["updates", "epochs", "patience", "learning-rate"],
    )
    def test_a_run_that_ended_by_itself_is_left_alone(self, data, tmp_path, capsys, flags, reason):
        flags = [*shlex.split(flags), "--force-anneal", "100"] if "fixed" in flags else shlex.split(flags)
        assert status(data, tmp_path, *flags) == 0
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
        capsys.readouterr()
        assert status(data, tmp_path, *flags) == 0
        assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")} == before
        assert reason in capsys.readouterr().out

    def test_a_larger_patience_continues_the_run(self, data, tmp_path):
        status(data, tmp_path, *PATIENCE, "--patience", "1")
        assert updates(tmp_path) == 10
        status(data, tmp_path, *PATIENCE)
        assert updates(tmp_path) == 15

    def test_a_small_learning_rate_ends_no_epoch_in_its_middle(self, data, tmp_path, monkeypatch):
        """A run that is stopped in an epoch in which the rate falls below --stop-min-lr does this epoch to its end."""
        schedule = "--lr-scheduler polynomial_decay --total-num-update 6 --warmup-updates 0 --stop-min-lr 0.006"
        flags = [*shlex.split(schedule), "--max-epoch", "3"]
        assert stopped_at(4, monkeypatch, data, tmp_path, *flags) == STOPPED
        assert status(data, tmp_path, *flags) == 0
        assert updates(tmp_path) == 5
        assert (tmp_path / "checkpoint_best.pt").exists()

    def test_hours_are_no_end(self, data, tmp_path, capsys):
        """Each call trains for as long; with so few hours that is one update, and validation does not hide it."""
        flags = ["--stop-time-hours", "1e-9", "--max-update", "3"]
        for done in (1, 2):
            assert status(data, tmp_path, *flags) == 0
            assert updates(tmp_path) == done
            assert f"stopped by --stop-time-hours after update {done}" in capsys.readouterr().out

    def test_hours_before_a_signal_count(self, data, tmp_path, monkeypatch):
        """The run stops at a whole multiple of the hours, whatever interrupted it."""
        stopped_at(1, monkeypatch, data, tmp_path, "--max-update", "9")
        state = load(tmp_path / "checkpoint_last.pt")
        state["extra_state"]["previous_training_time"] = 3600 * 3.5
        torch.save(state, tmp_path / "checkpoint_last.pt")
        status(data, tmp_path, "--max-update", "2", "--stop-time-hours", "3")
        assert load(tmp_path / "checkpoint_last.pt")["cfg"]["optimization"]["stop_time_hours"] == 6

    def test_hours_of_another_run_do_not_count(self, data, other, tmp_path):
        state = load(other / "averaged.pt")
        state["extra_state"]["previous_training_time"] = 3600 * 3.5
        torch.save(state, tmp_path / "begin.pt")
        flags = ["--finetune-from-model", str(tmp_path / "begin.pt"), "--stop-time-hours", "3", "--max-update", "2"]
        state = train(data, tmp_path / "run", *flags, command=b2t_train)
        assert state["optimizer_history"][-1]["num_updates"] == 2
        assert state["extra_state"]["previous_training_time"] < 3600


@pytest.mark.parametrize(
    "update", [pytest.param(10, marks=pytest.mark.slow), 13], ids=["at-the-end-of-an-epoch", "within-an-epoch"]
)
def test_plateaus_of_the_loss_belong_to_the_run(data, tmp_path, monkeypatch, update):
    """reduce_lr_on_plateau acts after the validation at which it would have acted without the interruption."""
    schedule = "--lr-scheduler reduce_lr_on_plateau --lr-patience 1 --lr-threshold 0.9 --lr-shrink 0.5 --max-update 17"
    flags = [*shlex.split(schedule), "--warmup-updates", "0"]
    whole = train(data, tmp_path / "whole", *flags, command=b2t_train)
    # The third validation was the second one without a better loss.
    assert whole["last_optimizer_state"]["param_groups"][0]["lr"] == 0.005
    assert stopped_at(update, monkeypatch, data, tmp_path / "run", *flags) == STOPPED
    status(data, tmp_path / "run", *flags)
    assert_same_model(whole, load(tmp_path / "run/checkpoint_last.pt"))
    # Stopping has not replaced the checkpoint of the epoch by one without its validation.
    losses = [load(tmp_path / run / "checkpoint2.pt")["extra_state"]["val_loss"] for run in ("whole", "run")]
    assert losses[0] == losses[1] is not None


def test_a_moving_average_begins_with_the_weights_of_the_checkpoint(data, tmp_path):
    before = train(data, tmp_path, "--max-update", "2", command=b2t_train)["model"]
    state = train(data, tmp_path, "--max-update", "3", "--store-ema", "--ema-decay", "0.9", command=b2t_train)
    for name, tensor in state["model"].items():
        if tensor.numel() > 1:
            expected = 0.9 * before[name] + 0.1 * tensor
            assert torch.allclose(state["extra_state"]["ema"][name], expected, atol=1e-6), name

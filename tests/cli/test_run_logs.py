"""Logs are read as fairseq writes them, whole or cut, and show in which state a run is."""

import os
import re

from logs import PREFIX, SETTINGS, START, reported, validated, write_log
from training import SHARED

from b2t_cli.reporting import summary
from b2t_cli.runs import log
from b2t_cli.runs.run import Model, read_all


class TestLog:
    def test_both_log_formats_give_the_same_numbers(self, logged_runs):
        """So does a run that was continued."""
        simple, resumed = (log.read(logged_runs / name / "train.log") for name in ("simple", "a<b>&c"))
        assert list(simple.train["update"]) == list(range(1, 14)) == list(resumed.train["update"])
        assert (simple.starts, resumed.starts) == (1, 2)
        for column in ("loss", "nll_loss", "ppl", "lr"):
            assert list(simple.train[column]) == list(resumed.train[column])
        # The continued run was validated at the end of its first part too.
        assert list(simple.validation()["update"]) == [5, 10, 13]
        assert list(resumed.validation()["update"]) == [5, 8, 10, 13]
        assert simple.validation().last("ppl") == resumed.validation().last("ppl")
        assert list(simple.epochs["update"]) == [5, 10, 13]
        assert [simple.max_update, simple.label_smoothing, simple.vocabulary] == [13, 0.1, 32]

    def test_numbers_are_those_in_the_lines(self, logged_runs):
        line = re.search(r"train_inner .*num_updates=7,.*", (logged_runs / "simple/train.log").read_text())[0]
        read = log.read(logged_runs / "simple/train.log").train
        for column in ("loss", "nll_loss", "lr", "gnorm", "wps"):
            assert read[column][6] == float(re.search(rf"\b{column}=([^,]+)", line)[1])

    def test_the_model_is_read_from_the_log(self, logged_runs):
        read = log.read(logged_runs / "simple/train.log")
        sets = [0, 1, 1, 0]
        assert read.model.layer_sharing == SHARED[1]
        assert read.model.parameter_sets == {"encoder": sets, "decoder": sets}
        assert 0 < read.parameters == read.model.parameters < 22_784

    def test_a_later_start_replaces_the_updates_that_it_repeats(self, tmp_path):
        before = [
            START,
            *(reported(update, 9 - update) for update in range(1, 7)),
            validated(3, 5.0),
            validated(6, 4.0),
        ]
        read = log.read(write_log(tmp_path / "train.log", *before, START, reported(4, 2), reported(5, 1)))
        assert list(read.train["update"]) == [1, 2, 3, 4, 5]
        assert list(read.train["loss"]) == [8, 7, 6, 2, 1]
        assert list(read.validation()["update"]) == [3]
        assert list(read.train["start"]) == [1, 0, 0, 1, 0]

    def test_a_line_that_is_cut_gives_no_wrong_number(self, tmp_path):
        """It may be cut anywhere, and the next start may continue in the same line."""
        whole, next_line = reported(1, 5.25), reported(2, 4.125, lr=0.5)
        for length in range(len(PREFIX + next_line) + 1):
            cut = (PREFIX + next_line)[:length]
            path = tmp_path / "train.log"
            path.write_text(f"{PREFIX}{whole}\n{cut}")
            assert list(log.read(path).train["update"]) == [1]
            path.write_text(f"{PREFIX}{whole}\n{cut}{PREFIX}x | y\n{PREFIX}{reported(3, 4.5)}\n")
            read = log.read(path).train
            assert set(read["update"]) <= {1, 2, 3}
            assert set(read["loss"]) <= {5.25, 4.125, 4.5}
            assert set(read["lr"][~(read["lr"] != read["lr"])]) <= {0.001, 0.5}

    def test_several_validation_sets_are_kept_apart(self, tmp_path):
        read = log.read(
            write_log(tmp_path / "train.log", reported(1, 5), validated(1, 4.0, "valid"), validated(1, 3.0, "valid1"))
        )
        assert list(read.valid) == ["valid", "valid1"]
        assert list(read.validation()["loss"]) == [4.0]

    def test_epochs_replace_reports_that_are_missing(self, tmp_path):
        """--log-format tqdm, the default in a terminal, logs epochs only."""
        epochs = [f"train | epoch 00{e} | loss {6 - e} | nll_loss 3 | num_updates {50 * e} | lr 0.1" for e in (1, 2)]
        assert list(log.read(write_log(tmp_path / "train.log", *epochs)).training()["loss"]) == [5, 4]


class TestState:
    def state(self, tmp_path, *messages, age=0.0):
        path = write_log(tmp_path / "run/train.log", SETTINGS, START, reported(100, 5, wall=10), *messages)
        return read_all([path.parent])[0].state(os.path.getmtime(path) + age)

    def test_the_state_is_read_from_the_log_and_its_age(self, tmp_path):
        """A run is training, stopped, finished or diverged."""
        done = "fairseq_cli.train | done training in 3.0 seconds"
        asked = "b2t_fairseq.stopping | asked to stop: ending after update 100 with a checkpoint"
        assert self.state(tmp_path) == "training"
        assert self.state(tmp_path, age=601) == "stopped"
        # It was silent for as long before.
        assert self.state(tmp_path, reported(200, 5, wall=1010), age=2900) == "training"
        assert self.state(tmp_path, done) == "finished"
        assert self.state(tmp_path, reported(4000, 5), age=1e6) == "finished"
        assert self.state(tmp_path, asked, done) == "stopped"
        assert self.state(tmp_path, asked, done, START) == "training"
        assert self.state(tmp_path, reported(200, "nan")) == "diverged at 200"

    def test_a_run_that_has_logged_nothing_yet_has_empty_cells(self, tmp_path):
        run = read_all([write_log(tmp_path / "run/train.log", SETTINGS, START).parent])[0]
        cells = summary.cells(run)
        assert cells["updates"] == "0 of 4,000"
        assert [cells[name] for name in ("scheme", "N", "parameters", "loss", "valid loss", "tokens/s")] == [""] * 6

    def test_the_model_is_read_from_a_checkpoint_otherwise(self, logged_runs, tmp_path):
        """This is so if the log has lost its beginning."""
        lines = (logged_runs / "simple/train.log").read_text().splitlines(keepends=True)
        (tmp_path / "train.log").write_text("".join(line for line in lines if "| train_inner |" in line))
        assert read_all([tmp_path])[0].model == Model()
        os.symlink(logged_runs / "simple/checkpoint_last.pt", tmp_path / "checkpoint_last.pt")
        assert read_all([tmp_path])[0].model == read_all([logged_runs / "simple"])[0].model

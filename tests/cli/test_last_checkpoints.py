"""``b2t average`` takes the last checkpoints that a run has made, or says which of them is missing."""

import shutil

import pytest
import torch
from training import load, train

from b2t_cli import main as b2t
from b2t_cli.runs.selection import last_checkpoints
from b2t_common.errors import InputError


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of 24 updates in epochs of 5, saved after every 4 updates but where an epoch ends, and after epochs."""
    folder = tmp_path_factory.mktemp("last")
    state = train(data, folder, "--save-interval-updates", "4", "--keep-interval-updates", "20", "--max-update", "24")
    assert state["extra_state"]["train_iterator"]["epoch"] == 5
    return folder


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run."""
    return shutil.copytree(run, tmp_path / "run")


def updates(files):
    """Return the numbers of updates that the files were written after."""
    return [load(file)["optimizer_history"][-1]["num_updates"] for file in files]


def test_where_an_epoch_ends_there_is_another_file(run):
    """Update 20 is in checkpoint4.pt; the names of the others have their numbers."""
    assert not list(run.glob("checkpoint_*_20.pt"))
    files = last_checkpoints(run, 3, "updates")
    assert updates(files) == [16, 20, 24]
    assert [file.name for file in files] == ["checkpoint_4_16.pt", "checkpoint4.pt", "checkpoint_5_24.pt"]
    assert updates(last_checkpoints(run, 3)) == [10, 15, 20]


def test_a_gap_is_an_error(copy):
    """As with --no-epoch-checkpoints, if an epoch ends where a checkpoint is due."""
    (copy / "checkpoint4.pt").unlink()
    for by, count, missing in (("updates", 2, "20"), ("updates", 6, "20"), ("epochs", 2, "4")):
        with pytest.raises(InputError, match=rf"run is at \d+ {by}.* those of {missing} are missing"):
            last_checkpoints(copy, count, by)
    assert updates(last_checkpoints(copy, 1, "updates")) == [24]


def test_the_last_checkpoint_can_be_the_only_file_of_an_update(copy):
    for file in copy.glob("checkpoint_*_24.pt"):
        file.unlink()
    assert [file.name for file in last_checkpoints(copy, 1, "updates")] == ["checkpoint_last.pt"]
    # The run did not save the last checkpoint, so what came before is all there is.
    (copy / "checkpoint_last.pt").unlink()
    assert updates(last_checkpoints(copy, 2, "updates")) == [12, 16]


def test_more_checkpoints_than_the_run_has_are_refused(copy):
    with pytest.raises(InputError, match=r"has 6 checkpoints by updates, not 7"):
        last_checkpoints(copy, 7, "updates")
    (copy / "checkpoint_1_4.pt").unlink()
    with pytest.raises(InputError, match=r"has 5 checkpoints by updates, not 6"):
        last_checkpoints(copy, 6, "updates")


def test_checkpoints_of_another_run_are_refused(copy, data):
    """Another run in the folder of a longer one leaves that one's files."""
    state = load(copy / "checkpoint2.pt")
    torch.save(state, copy / "checkpoint_last.pt")
    for by, message in (("epochs", r"checkpoint4\.pt is of 4 epochs, but .*only of 2"), ("updates", "only of 10")):
        with pytest.raises(InputError, match=message):
            last_checkpoints(copy, 2, by)
    for file in ("checkpoint3.pt", "checkpoint4.pt"):
        (copy / file).unlink()
    assert updates(last_checkpoints(copy, 2)) == [5, 10]
    shutil.copy(copy / "checkpoint2.pt", copy / "checkpoint1.pt")
    with pytest.raises(InputError, match=r"checkpoint1\.pt is of 2 epochs, not of 1"):
        last_checkpoints(copy, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint1.pt", "checkpoint2.pt", "--by", "updates"], "--by updates chooses from one folder"),
        (["checkpoint1.pt", "--last", "1"], "--last 1 chooses from one folder"),
        (["checkpoint1.pt", "."], "is a folder"),
        (["checkpoint1.pt", "checkpoint1.pt"], "is given twice"),
    ],
)
def test_flags_and_files_that_contradict_each_other(run, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(run)
    assert b2t(["average", *arguments, "--output", "averaged.pt"]) == 1
    assert message in capsys.readouterr().err
    assert not (run / "averaged.pt").exists()


@pytest.mark.parametrize("inputs", [["."], ["checkpoint4.pt", "checkpoint_last.pt"]])
def test_no_checkpoint_of_the_run_is_overwritten(copy, monkeypatch, capsys, inputs):
    """An average has no state of the optimizer, so in place of checkpoint_last.pt it would be the end of the run."""
    monkeypatch.chdir(copy)
    before = (copy / "checkpoint_last.pt").read_bytes()
    assert b2t(["average", *inputs, "--output", "checkpoint_last.pt"]) == 1
    assert "--output checkpoint_last.pt is one of the files to read or a checkpoint" in capsys.readouterr().err
    assert (copy / "checkpoint_last.pt").read_bytes() == before


def test_an_older_average_beside_the_checkpoints_is_replaced(copy, capsys):
    output = copy / "checkpoint_average.pt"
    output.write_text("an older one")
    assert b2t(["average", str(copy), "--last", "1", "--output", str(output)]) == 0, capsys.readouterr().err
    assert output.read_bytes() != b"an older one"

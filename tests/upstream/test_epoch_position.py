"""Within an epoch a run continues with the sentences that are left, for any number of processes."""

import math
import os
import signal

import pytest
import torch
from fairseq.data.iterators import EpochBatchIterator
from processes import two_processes
from stopped import signal_at, status, stopped_at, updates
from training import SHARED, assert_same_model, load, train

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.upstream import stopping


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Later runs in this process do not stop."""
    yield
    stopping._asked.clear()


def iterator(processes, process=0, num_batches=23, seed=1, size=2, **flags):
    """Return an iterator over batches of ``size`` sentences, each sentence being its number."""
    batches = [[size * i + j for j in range(size)] for i in range(num_batches)]
    numbers = torch.utils.data.TensorDataset(torch.arange(size * num_batches))

    def collate(sentences):
        return [int(sentence[0]) for sentence in sentences]

    return EpochBatchIterator(numbers, collate, batches, seed, processes, process, **flags)


def consumed(processes, batches_each):
    """Return the sentences that the processes have had after so many batches each, and the position then."""
    had, state = set(), None
    for process in range(processes):
        epoch = iterator(processes, process)
        batches = epoch.next_epoch_itr()
        for _ in range(batches_each):
            had.update(next(batches))
        state = epoch.state_dict()
    return had, state


@pytest.mark.parametrize(
    ("before", "batches_each", "now", "update_freq", "expected"),
    [(1, 12, 2, 1, 6), (2, 6, 1, 1, 12), (2, 6, 1, 8, 8), (3, 5, 2, 2, 6), (2, 3, 4, 1, 1), (4, 1, 8, 1, 0)],
)
def test_the_sentences_that_are_left(before, batches_each, now, update_freq, expected):
    """All that no process has had are left; the position is rounded down, so that some others are read again."""
    had, state = consumed(before, batches_each)
    assert state["iterations_in_epoch"] == batches_each
    left = []
    for process in range(now):
        epoch = iterator(now, process)
        epoch.load_state_dict({**state, "update_freq": update_freq})
        assert epoch.iterations_in_epoch == expected
        left += [number for batch in epoch.next_epoch_itr() for number in batch]
    assert len(left) == len(set(left)) == 2 * (23 - expected * now)
    assert set(range(46)) - had <= set(left)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"num_batches": 22}, "22 other batches"),
        ({"seed": 2}, "23 other"),
        ({"num_batches": 23, "size": 3}, "23 other"),
    ],
)
def test_other_batches_are_refused(others, reason):
    _, state = consumed(2, 5)
    with pytest.raises(InputError, match=f"after 10 of 23 batches of epoch 1, but .* {reason}"):
        iterator(2, **others).load_state_dict(state)


def test_the_same_sentences_in_other_groups_are_other_batches():
    _, state = consumed(2, 5)
    regrouped = iterator(2)
    regrouped._frozen_batches = ([0], [1, 2, 3], *regrouped._frozen_batches[2:])
    with pytest.raises(InputError, match="23 other batches"):
        regrouped.load_state_dict(state)


def test_the_end_of_an_epoch_is_a_position_in_any_batches():
    epoch = iterator(1)
    list(epoch.next_epoch_itr())
    other = iterator(2, num_batches=7)
    other.load_state_dict(epoch.state_dict())
    assert (other.epoch, other.iterations_in_epoch) == (2, 0)


def test_grouped_shuffling_depends_on_the_processes():
    epoch = iterator(2, grouped_shuffling=True)
    next(epoch.next_epoch_itr())
    state = epoch.state_dict()
    iterator(2, grouped_shuffling=True).load_state_dict(state)
    with pytest.raises(InputError, match=r"in another order \(2 processes there, 1 here, with --grouped-shuffling"):
        iterator(1, grouped_shuffling=True).load_state_dict(state)


def test_epochs_after_those_of_the_curriculum_are_shuffled():
    """fairseq reuses the first epoch's loader; without shuffling, the second epoch would have the same order."""
    epoch = iterator(1, reuse_dataloader=True)
    orders = [list(epoch.next_epoch_itr(shuffle=shuffle)) for shuffle in (False, True, False)]
    assert orders[0] == orders[2] == [[2 * i, 2 * i + 1] for i in range(23)]
    assert orders[1] != orders[0]
    assert sorted(orders[1]) == orders[0]


class TestTraining:
    FLAGS = (*SHARED, "--dropout", "0", "--max-tokens", "60", "--ddp-backend", "legacy_ddp", "--max-epoch", "2")
    ONE = ("--update-freq", "2")

    @pytest.fixture(scope="class")
    def whole(self, data, tmp_path_factory):
        """The last checkpoint of a run by one process that was not stopped."""
        return train(data, tmp_path_factory.mktemp("whole"), *self.FLAGS, *self.ONE)

    @pytest.mark.parametrize("first", [1, 2])
    def test_another_number_of_processes(self, data, tmp_path, monkeypatch, whole, first):
        """One process, then two, and the other way round: the updates and the weights of a run that was not stopped."""
        if first == 1:
            assert stopped_at(3, monkeypatch, data, tmp_path / "run", *self.FLAGS, *self.ONE) == stopping.EXIT_STATUS
            assert updates(tmp_path / "run") == 3
            two_processes(data, tmp_path / "run", *self.FLAGS)
        else:
            with monkeypatch.context() as patch:
                signal_at(patch, 3, signal.SIGUSR1, lambda trainer: [os.getpid()] * (trainer.data_parallel_rank == 0))
                two_processes(data, tmp_path / "run", *self.FLAGS)
            assert updates(tmp_path / "run") == 3
            assert status(data, tmp_path / "run", *self.FLAGS, *self.ONE) == 0
        resumed = load(tmp_path / "run/checkpoint_last.pt")
        assert updates(tmp_path / "run") == whole["optimizer_history"][-1]["num_updates"]
        assert_same_model(whole, resumed, tolerance=1e-4)

    def test_larger_updates(self, data, tmp_path, monkeypatch):
        """The third batch is read again, so that the rest of the epoch is whole updates."""
        flags = ["--max-tokens", "60", "--max-epoch", "1"]
        batches = train(data, tmp_path / "whole", *flags)["optimizer_history"][-1]["num_updates"]
        assert stopped_at(3, monkeypatch, data, tmp_path / "run", *flags) == stopping.EXIT_STATUS
        assert status(data, tmp_path / "run", *flags, "--update-freq", "2") == 0
        assert updates(tmp_path / "run") == 3 + math.ceil((batches - 2) / 2)

    @pytest.mark.parametrize("version", ["new", "old"])
    def test_another_size_of_batches(self, data, tmp_path, version):
        """It is refused with both sizes, and --reset-dataloader begins with the first epoch again."""
        flags = ["--max-update", "2", "--max-tokens", "160"]
        train(data, tmp_path, *flags, command=b2t_train)
        if version == "old":
            state = load(tmp_path / "checkpoint_last.pt")
            position = state["extra_state"]["train_iterator"]
            state["extra_state"]["train_iterator"] = {
                name: position[name] for name in ("version", "epoch", "iterations_in_epoch", "shuffle")
            }
            torch.save(state, tmp_path / "checkpoint_last.pt")
        flags = ["--max-update", "4", "--max-tokens", "100"]
        of = "the" if version == "old" else "5"
        with pytest.raises(InputError, match=f"after 2 of {of} batches of epoch 1, .*max-tokens 160 there, 100 here"):
            train(data, tmp_path, *flags, command=b2t_train)
        assert updates(tmp_path) == 2
        state = train(data, tmp_path, *flags, "--reset-dataloader", command=b2t_train)
        assert updates(tmp_path) == 4
        position = state["extra_state"]["train_iterator"]
        assert (position["epoch"], position["iterations_in_epoch"]) == (1, 2)

"""A run that is asked to stop ends with a checkpoint, on all ranks after the same update, and can be continued."""

import multiprocessing
import os
import signal
import threading

import pytest
from fairseq.data.iterators import GroupedIterator
from processes import two_processes
from stopped import signal_at, updates
from training import SHARED, assert_same_model, load, train

from b2t_cli.train import main as b2t_train
from b2t_fairseq.upstream import stopping

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Later runs in this process do not stop; a killed child leaves its mark, in shared memory, that it trains."""
    yield
    stopping._training[0] = 0
    stopping._asked.clear()


@pytest.mark.parametrize(
    ("update", "number"),
    [
        (3, signal.SIGTERM),
        (8, signal.SIGUSR1),
        pytest.param(3, signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param(8, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_with_the_same_weights(data, tmp_path, monkeypatch, capsys, number, update):
    """Started again, it ends as a run that was never stopped; the exit status says that it was stopped."""
    flags = [data, tmp_path / "stopped", *SHARED, "--max-update", "12", "--encoder-word-dropout", "0.1"]
    handlers = [signal.getsignal(n) for n in stopping.SIGNALS]
    whole = train(data, tmp_path / "whole", *flags[2:])
    per_epoch = whole["extra_state"]["train_iterator"]["iterations_in_epoch"]
    assert per_epoch != 3
    with monkeypatch.context() as patch:
        signal_at(patch, update, number)
        status = []
        train(*flags, command=lambda argv: status.append(b2t_train(argv)))
    assert status == [stopping.EXIT_STATUS]
    assert "the same command continues" in capsys.readouterr().out
    stopped = load(tmp_path / "stopped/checkpoint_last.pt")
    assert stopped["optimizer_history"][-1]["num_updates"] == update
    # The value that tells the ranks to stop must not be added to the training time.
    assert stopped["extra_state"]["previous_training_time"] < 3600
    assert [signal.getsignal(n) for n in stopping.SIGNALS] == handlers
    # The timer that ends a process that hangs must not end one whose training has ended.
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    resumed = train(*flags, command=lambda argv: status.append(b2t_train(argv)))
    assert status[1] == 0
    assert_same_model(whole, resumed)
    assert resumed["extra_state"]["best"] == whole["extra_state"]["best"]


def test_a_run_that_is_stopped_in_its_last_update_has_finished(data, tmp_path, monkeypatch):
    """It is validated, as at the end of any run."""
    signal_at(monkeypatch, 2, signal.SIGUSR1)
    status = []
    train(data, tmp_path, "--max-update", "2", command=lambda argv: status.append(b2t_train(argv)))
    assert status == [0]
    assert (tmp_path / "checkpoint_best.pt").exists()


def test_one_rank_tells_the_other_to_stop(data, tmp_path, monkeypatch):
    """Only rank 1 gets the signal; both end after the same update, and the run can continue."""
    flags = [*SHARED, "--ddp-backend", "legacy_ddp", "--dropout", "0", "--max-update", "6"]
    with monkeypatch.context() as patch:
        signal_at(patch, 3, signal.SIGUSR1, lambda trainer: [os.getpid()] * (trainer.data_parallel_rank == 1))
        lines = two_processes(data, tmp_path / "run", *flags)
    assert any("asked to stop: ending after update 3" in line for line in lines)
    assert updates(tmp_path / "run") == 3
    assert load(tmp_path / "run/checkpoint_last.pt")["extra_state"]["previous_training_time"] < 3600
    two_processes(data, tmp_path / "run", *flags)
    whole = train(data, tmp_path / "whole", *flags, "--update-freq", "2")
    assert_same_model(whole, load(tmp_path / "run/checkpoint_last.pt"), tolerance=1e-4)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_processes_that_load_data_go_on_until_the_run_ends(data, tmp_path, monkeypatch, number):
    """Batch systems signal them too, but the update needs more batches than are read ahead."""
    loaders, groups = [], []

    def all_processes():
        loaders.extend(multiprocessing.active_children())
        return [*(process.pid for process in loaders), os.getpid()]

    def send_from_outside(pids):
        for pid in pids:
            os.kill(pid, number)

    next_group = GroupedIterator.__next__

    def signal_before_second(self):
        groups.append(self)
        if len(groups) == 2:
            sender = FORK.Process(target=send_from_outside, args=(all_processes(),))
            sender.start()
            sender.join()
        return next_group(self)

    monkeypatch.setattr(GroupedIterator, "__next__", signal_before_second)
    flags = ["--batch-size", "1", "--update-freq", "20", "--data-buffer-size", "2", "--num-workers", "2"]
    train(data, tmp_path, "--max-update", "40", *flags, command=b2t_train)
    assert len(loaders) >= 2
    assert updates(tmp_path) == 2
    # SIGTERM ends them at the end of the run.  PyTorch would report that, because the test holds their iterators.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        for process in loaders:
            process.terminate()
            process.join(30)
            assert process.exitcode is not None
    finally:
        signal.signal(signal.SIGCHLD, handler)


def test_a_launcher_passes_signals_on_to_its_processes():
    """SIGTERM arrives as SIGUSR1, which asks for a checkpoint."""

    def wait_for_signal(ready):
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping.SIGNALS)
        ready.set()
        os._exit(signal.sigwait(stopping.SIGNALS))

    ready = FORK.Event()
    with stopping.forwarded_to_spawned():
        child = FORK.Process(target=wait_for_signal, args=(ready,))
        child.start()
        ready.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        child.join()
    assert child.exitcode == signal.SIGUSR1
    assert stopping.was_asked()


@pytest.mark.parametrize("early", [False, True], ids=["while-it-starts", "before-it-starts"])
def test_a_signal_waits_until_a_spawned_process_can_handle_it(early):
    """So it is not lost, and does not kill the process, while the process starts."""
    child = multiprocessing.get_context("spawn").Process(target=signal.sigwait, args=([signal.SIGUSR1],))
    with stopping.forwarded_to_spawned():
        if early:
            os.kill(os.getpid(), signal.SIGUSR1)
        child.start()
        if not early:
            os.kill(os.getpid(), signal.SIGTERM)
        child.join()
    assert child.exitcode == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], stopping.SIGNALS])
def test_a_process_that_hangs_is_ended_after_sigterm(monkeypatch, numbers):
    """SIGTERM means that the machine is taken away soon."""
    monkeypatch.setattr(stopping, "SECONDS_AFTER_SIGTERM", 0.1)

    def hang():
        with stopping.stopping_when_asked():
            for number in numbers:
                os.kill(os.getpid(), number)
            threading.Event().wait()

    child = FORK.Process(target=hang)
    child.start()
    child.join()
    assert child.exitcode == 128 + signal.SIGTERM

"""One run at a time in a folder: the lock is that of scripts/train.sh, and a kill releases it."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time

import pytest

from b2t_cli.runs.lock import VARIABLE, locked
from b2t_common.errors import InputError

FORK, SPAWN = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")


def is_locked(folder):
    """Return whether another process than this one could not lock the folder."""
    with open(folder / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def wait_with(_lock, ready):
    """Have a lock until a signal ends this process."""
    ready.set()
    signal.pause()


def lock_and_load_data(folder, ready):
    """Lock a folder and fork a process, as a training does that loads data in other processes."""
    with locked(folder):
        loader = FORK.Process(target=time.sleep, args=(60,))
        loader.start()
        ready.put(loader.pid)
        signal.pause()


def test_a_second_run_is_refused(tmp_path):
    with locked(tmp_path / "run"):
        assert is_locked(tmp_path / "run")
        with (
            pytest.raises(InputError, match=f"a run is at work in {tmp_path}/run; wait for it"),
            locked(tmp_path / "run"),
        ):
            pass
    with locked(tmp_path / "run"):
        pass
    assert not is_locked(tmp_path / "run")


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    assert not is_locked(tmp_path)


def test_a_kill_releases_the_lock(tmp_path):
    """At once, although a process that loads data lives on for some seconds."""
    pids = FORK.SimpleQueue()
    run = FORK.Process(target=lock_and_load_data, args=(tmp_path, pids))
    run.start()
    loader = pids.get()
    assert is_locked(tmp_path)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    os.kill(loader, 0)  # it is alive
    assert not is_locked(tmp_path)
    os.kill(loader, signal.SIGKILL)


def test_processes_that_train_have_the_lock_too(tmp_path):
    """When the process that started them was killed, the folder is locked until they have ended."""
    ready = SPAWN.Event()
    with locked(tmp_path) as lock:
        trainer = SPAWN.Process(target=wait_with, args=(lock, ready), daemon=True)
        trainer.start()
        ready.wait()
    assert is_locked(tmp_path)
    trainer.kill()
    trainer.join()
    assert not is_locked(tmp_path)


def test_the_lock_of_train_sh_is_taken_over(tmp_path, monkeypatch):
    """An open file that is another one is left alone."""
    with open(tmp_path / ".lock", "w") as file, open(tmp_path / "another", "w") as another:
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setenv(VARIABLE, str(another.fileno()))
        with pytest.raises(InputError, match="a run is at work"), locked(tmp_path):
            pass
        assert not another.closed
        inherited = os.dup(file.fileno())
        monkeypatch.setenv(VARIABLE, str(inherited))
        with locked(tmp_path) as lock:
            assert lock.file == inherited
            assert not os.get_inheritable(inherited)


def test_without_locks_a_run_is_warned_and_starts(tmp_path, monkeypatch, caplog):
    """Some file systems of clusters have no locks."""

    def flock(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert "cannot be locked" in caplog.text


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    message = f"--save-dir {tmp_path}/file: there is a file of that name"
    with pytest.raises(InputError, match=message), locked(tmp_path / "file"):
        pass


def test_training_is_refused_before_anything_is_written(tmp_path):
    from training import SHARED, train

    from b2t_cli.train import main as b2t_train

    with locked(tmp_path), pytest.raises(InputError, match="a run is at work"):
        train("data", tmp_path, *SHARED, command=b2t_train)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]

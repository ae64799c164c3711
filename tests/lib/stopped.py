"""Runs of ``b2t train`` in this process that are stopped by a signal."""

import os
import signal
from pathlib import Path

from fairseq.trainer import Trainer
from training import load, train

from b2t_cli.train import main as b2t_train


def signal_at(monkeypatch, update, number, receivers=lambda trainer: [os.getpid()]):
    """Send a signal while an update is computed; ``receivers`` returns the ids of processes."""
    step = Trainer.train_step

    def train_step(self, *arguments, **keywords):
        if self.get_num_updates() == update - 1:
            for process in receivers(self):
                os.kill(process, number)
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(Trainer, "train_step", train_step)


def updates(folder: Path, name: str = "checkpoint_last.pt") -> int:
    """Return how many updates a checkpoint of a run has."""
    return load(folder / name)["optimizer_history"][-1]["num_updates"]


def status(data: str, folder: Path, *flags: str) -> int:
    """Train with ``b2t train`` and return its exit status, whether it leaves a last checkpoint or not."""
    results: list[int] = []
    try:
        train(data, folder, *flags, command=lambda argv: results.append(b2t_train(argv)))
    except FileNotFoundError:
        assert results, "the training did not end"
    return results[0]


def stopped_at(update: int, monkeypatch, data: str, folder: Path, *flags: str) -> int:
    """Train with ``b2t train``, stop it by a signal in an update, and return its exit status."""
    with monkeypatch.context() as patch:
        signal_at(patch, update, signal.SIGUSR1)
        return status(data, folder, *flags)

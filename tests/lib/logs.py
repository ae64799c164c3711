"""Logs of training: invented ones in fairseq's format, and real ones."""

import logging
import math
import random
from contextlib import contextmanager

from b2t_cli.runs import log

PREFIX = "2026-01-01 10:00:00 | INFO | "
SETTINGS = (
    "fairseq_cli.train | {'common': {}, 'optimization': {'max_update': 4000, 'sentence_avg': False}, "
    "'criterion': {'_name': 'label_smoothed_cross_entropy', 'label_smoothing': 0.1}}"
)
START = "fairseq_cli.train | training on 1 devices (GPUs/TPUs)"
UPDATES = range(100, 4001, 100)


def reported(update, loss, **values):
    """Return the message with which fairseq reports an update."""
    values = {"loss": loss, "nll_loss": loss, "wps": 1000, "num_updates": update, "lr": 0.001, "gnorm": 0.5} | values
    return f"train_inner | epoch 001:  {update} / 99 " + ", ".join(f"{k}={v}" for k, v in values.items())


def validated(update, loss, subset="valid"):
    """Return the message with which fairseq reports a validation."""
    return (
        f"{subset} | epoch 001 | valid on '{subset}' subset | loss {loss} | nll_loss {loss} | ppl {2**loss:.2f} | "
        f"num_updates {update}"
    )


def write_log(path, *messages, end="\n"):
    """Write a log of these messages; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(PREFIX + message for message in messages) + end)
    return path


def synthetic(tmp_path, losses, *after, vocabulary=32000):
    """Return the log of 40 reports, one for each 100 updates, and of the messages ``after``."""
    start = (SETTINGS, f"fairseq.tasks | [de] dictionary: {vocabulary} types", START)
    reports = [reported(update, f"{loss:.3f}") for update, loss in zip(UPDATES, losses, strict=True)]
    return log.read(write_log(tmp_path / "train.log", *start, *reports, *after))


def falling(seed=0, noise=0.1, low=4.0):
    """Return 40 losses that fall to ``low``, with noise."""
    generator = random.Random(seed)
    return [low + 11 * math.exp(-update / 500) + generator.gauss(0, noise) for update in UPDATES]


@contextmanager
def logged(path):
    """Write what is logged to a file, in the format of fairseq's commands."""
    path.parent.mkdir(exist_ok=True)
    root, handler = logging.getLogger(), logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)s | %(name)s | %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()

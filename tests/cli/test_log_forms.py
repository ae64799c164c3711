"""Logs of real trainings in each form that fairseq writes have the same training curve, each update once."""

import io
import logging
import sys
from contextlib import contextmanager
from functools import partial

import pytest
import tqdm
from logs import START, logged, reported, write_log
from training import SHARED, train

from b2t_cli.reporting import summary
from b2t_cli.runs import log
from b2t_cli.runs.run import read_all

# the form, where it is redirected, and what --log-file names
TRAININGS = [("simple", "redirected", "file"), ("simple", "both", "both"), ("json", "redirected", "file")]
FORMS = [("simple", "redirected"), ("simple", "file"), ("simple", "both"), ("json", "redirected"), ("json", "file")]


@contextmanager
def fairseqs_log_file(path):
    """Return the flags of ``--log-file``; afterwards remove the handlers that fairseq leaves."""
    loggers = [logging.getLogger(name) for name in ("fairseq_cli.train", "fairseq.logging.progress_bar")]
    before = [list(logger.handlers) for logger in loggers]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield ["--log-file", str(path)]
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            for handler in set(logger.handlers) - set(handlers):
                logger.removeHandler(handler)
                handler.close()


class Terminal(io.StringIO):
    """Standard error on a wide terminal, where fairseq draws bars."""

    def isatty(self):
        return True


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """The logs of the same training, 8 updates in epochs of 5, in all forms."""
    folder = tmp_path_factory.mktemp("forms")

    def run(name, *flags):
        train(data, folder / f"runs/{name}", *SHARED, "--max-update", "8", "--no-epoch-checkpoints", *flags)

    for form, name, other in TRAININGS:
        with fairseqs_log_file(folder / form / f"{other}.log") as flags, logged(folder / form / f"{name}.log"):
            run(f"{form}_{name}", "--log-format", form, *flags)
    with pytest.MonkeyPatch.context() as patch:
        terminal = Terminal()
        patch.setattr(sys, "stderr", terminal)
        patch.setattr(sys, "argv", ["fairseq-train"])
        # so that what is drawn does not depend on how fast the machine is
        patch.setattr(tqdm, "tqdm", partial(tqdm.tqdm, mininterval=0, miniters=1))
        handler = logging.StreamHandler(terminal)
        logging.getLogger().addHandler(handler)
        try:
            run("tqdm", "--log-format", "tqdm")
        finally:
            logging.getLogger().removeHandler(handler)
    (folder / "tqdm").mkdir()
    (folder / "tqdm/terminal.log").write_bytes(terminal.getvalue().replace("\n", "\r\n").encode())
    return folder


def numbers(read):
    """Return what is the same in each form: losses by update, in training, of epochs and in validation."""
    curves = (read.train, read.epochs, read.validation())
    return [list(zip(curve["update"], curve["loss"], curve["lr"], strict=True)) for curve in curves[:2]] + [
        list(zip(curves[2]["update"], curves[2]["loss"], strict=True))
    ]


@pytest.fixture
def expected(folder):
    """The numbers of the form that b2t's own scripts use."""
    read = log.read(folder / "simple/redirected.log")
    assert list(read.train["update"]) == list(range(1, 9))
    assert list(read.epochs["update"]) == [5, 8] == list(read.validation()["update"])
    return numbers(read)


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_each_form_gives_the_same_curves(folder, expected, form, name):
    """With both forms in one file too, in which every report stands several times."""
    path = folder / f"{form}/{name}.log"
    read = log.read(path)
    assert numbers(read) == expected
    assert list(read.train["start"]) == [1] + 7 * [0]
    assert (read.starts, read.ended, read.unread) == (1, True, 0)
    if name == "both":
        once = (folder / f"{form}/redirected.log").read_text()
        assert path.read_text().count("num_updates") > 2 * once.count("num_updates")


def test_bars_of_a_terminal_are_read(folder, expected):
    """A bar shows the update before the one it is drawn for, so that not every update is shown; no number is wrong."""
    read = log.read(folder / "tqdm/terminal.log")
    train, epochs, valid = numbers(read)
    assert 1 < len(train) < len(expected[0])
    assert set(train) <= set(expected[0])
    assert [epochs, valid] == expected[1:]
    assert (read.starts, read.unread) == (1, 0)


@pytest.mark.parametrize("before", [(4, 4), (3,), ()], ids=["drawn again", "drawn late", "first drawn late"])
def test_a_bar_that_is_drawn_late_does_not_remove_the_validation(tmp_path, before):
    """A machine may be so busy that a bar shows an update after the validation that follows the next update."""

    def bar(update):
        return f"\repoch 001:  80%|8| 4/5 [00:01<00:00, 4.70it/s, loss=5.{update}, lr=0.1, num_updates={update}]"

    valid = "2026 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 4.5 | num_updates 5\r\n"
    shown = "".join(map(bar, before))
    cut = bar(5).replace("=5]", "=1")
    path = tmp_path / "log"
    path.write_text(f"{START}\n{shown}{valid}{bar(4)}{bar(5)}\r\n{cut}\r\n", newline="")
    read = log.read(path)
    assert list(read.train["update"]) == sorted({*before, 4, 5})
    assert list(read.train["start"]) == [1] + [0] * (len(read.train) - 1)
    assert list(read.validation()["update"]) == [5]
    assert read.unread == 1


@pytest.mark.parametrize("first", ["train_inner", "valid"])
def test_the_first_report_after_a_start_takes_the_place_of_later_ones(tmp_path, first):
    """Whichever it is: reports of updates may be further apart than validations."""
    lines = [reported(update, 5) for update in (2, 4, 6, 8)]
    valid = "valid | epoch 001 | valid on 'valid' subset | loss {} | num_updates {}"
    lines[2:2] = [valid.format(4.5, 4)]
    lines.append(valid.format(4.25, 8))
    again = [reported(4, 6)] if first == "train_inner" else []
    path = write_log(tmp_path / "log", START, *lines, START, *again, valid.format(4.75, 4))
    read = log.read(path)
    assert list(read.train["update"]) == ([2, 4] if first == "train_inner" else [2])
    assert list(read.validation()["loss"]) == [4.75]


def test_what_is_not_understood_is_said(tmp_path):
    """So is a log that has epochs only, as --log-file has with --log-format tqdm."""
    other = 2 * ["train_inner | num_updates: 7; loss: 3"]
    epoch = "train | epoch 001 | loss 5 | num_updates 50"
    path = write_log(tmp_path / "run/train.log", START, reported(1, 5), *other)
    notes = summary.table(read_all([path.parent])).notes
    assert f"run: 2 lines with num_updates in {path} were not understood" in notes
    assert not any("for each epoch" in note for note in notes)
    notes = summary.table(read_all([write_log(path, START, epoch).parent])).notes
    assert any("has no reports of updates, so its curve has one point for each epoch" in note for note in notes)
    assert not any("not understood" in note for note in notes)


def test_an_error_in_one_line_stops_a_run(tmp_path):
    path = write_log(tmp_path / "run/train.log", START, reported(1, 5))
    with open(path, "a") as file:
        file.write("b2t train: error: runs/x: No space left on device\n")
    run = read_all([path.parent])[0]
    assert run.state() == "stopped"
    assert run.log.error == "error: runs/x: No space left on device"

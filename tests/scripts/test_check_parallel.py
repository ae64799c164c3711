"""Two files are translations of each other only if they have the same number of lines, all of them in UTF-8."""

import sys

import check_parallel
import pytest

from b2t_common import programs

FILES = {
    "two": b"one\ntwo\n",
    "two unfinished": b"one\ntwo",
    "one": b"eins\n",
    "separators": "eins\u2028noch\x85eins\n".encode(),
    "empty": b"",
    "latin1": "zwei\nschön\n".encode("latin-1"),
}


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Return a function that compares two of the files by the command."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)

    def check(first, second):
        monkeypatch.setattr(sys, "argv", ["check_parallel.py", str(tmp_path / first), str(tmp_path / second)])
        return programs.run("check_parallel.py", check_parallel.main)

    return check


@pytest.mark.parametrize(("first", "second"), [("two", "two unfinished"), ("one", "separators")])
def test_the_same_number_of_lines_is_accepted(check, first, second):
    """A last line may have no end, and only LF ends a line."""
    assert check(first, second) == 0


@pytest.mark.parametrize(
    ("first", "second", "messages"),
    [
        ("two", "one", ["two has 2 lines, but", "one has 1"]),
        ("two unfinished", "one", ["one has 1"]),
        ("empty", "empty", ["empty is empty"]),
        ("two", "latin1", ["latin1 is not UTF-8 in line 2"]),
        ("two", "none", ["no such file or folder", "none"]),
    ],
)
def test_other_files_are_refused(check, capsys, first, second, messages):
    assert check(first, second) == 1
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error

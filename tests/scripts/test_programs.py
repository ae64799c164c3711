"""The programs of scripts/corpus, and the commands: one line for an error, and UTF-8 whatever the locale says."""

import os
import subprocess
import sys

import moses_bpe
import pytest
import streams
from commands import command_line
from helpers import ROOT
from logs import START, reported, write_log

from b2t_common.errors import InputError


def start(name, *arguments, cwd, **env):
    """Run a program of scripts/corpus."""
    command = [sys.executable, str(ROOT / "scripts/corpus" / name), *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("spm.py encode no.model text out", "no.model"),
        ("spm.py encode text text out", "could not parse ModelProto from text"),
        ("spm.py encode text text folder", "folder cannot be written: it is a folder"),
        ("moses_bpe.py apply no text out", "no such file or folder: no"),
        ("moses_bpe.py apply latin1 text out", "latin1 is not a file of codes"),
        ("moses_bpe.py tokenize en latin1 out", "latin1 is not UTF-8 in line 2"),
        ("clean.py out no", "neither no.en nor no.en.gz exists"),
        ("clean.py out side --workers 0", "--workers 0: give a positive number"),
        ("fetch.py text folder -", "folder is not a file"),
        ("manifest.py out text no", "no: no such file or folder"),
        ("unpack.py no member out", "no such file or folder: no"),
        ("check_parallel.py text no", "no such file or folder: no"),
    ],
)
def test_an_error_is_one_line(tmp_path, command, message):
    """Also one in a process that works for the program; nothing is written."""
    for name in ("text", "side.en", "side.de"):
        (tmp_path / name).write_text("a b\n")
    (tmp_path / "latin1").write_bytes("a\nschön\n".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    name, *arguments = command.split()
    result = start(name, *arguments, cwd=tmp_path)
    said = result.stderr.decode()
    assert result.returncode == 1
    assert message in said
    assert said.startswith(f"{name}: error: ")
    assert said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def kill(item):
    os._exit(item)


def test_a_process_that_was_killed_is_said():
    with pytest.raises(InputError, match="one of 2 processes was killed, perhaps because memory ran out"):
        list(streams.parallel_map(kill, [1], 2))


def test_tokens_are_those_of_each_line(tmp_path):
    (tmp_path / "text").write_text("a-b\u2028c.\n\nd\n")
    moses_bpe.convert(moses_bpe._tokenize, moses_bpe._load_tokenizer, "en", tmp_path / "text", tmp_path / "out", 1)
    assert (tmp_path / "out").read_text().split("\n") == ["a @-@ b c .", "", "d", ""]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_is_utf8_whatever_the_locale_says(tmp_path, encoding):
    result = start("make_grammar_corpus.py", "--out", "ü ▁", "--train", "5", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert "5 pairs in ü ▁/train.en" in result.stdout.decode("utf-8")
    write_log(tmp_path / "läufe ▁/train.log", START, reported(1, 5))
    command = [*command_line("b2t"), "report", "läufe ▁", "--text"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    shown = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True).stdout
    assert "läufe ▁  " in shown.decode("utf-8")

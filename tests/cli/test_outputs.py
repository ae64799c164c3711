"""Outputs that are not plain files: what is there is written into or followed, and never replaced."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from b2t_cli import main as b2t
from b2t_common.errors import InputError
from b2t_common.files import messages_beside, require_file, require_prefix, write_folder, write_lines, write_whole
from b2t_fairseq import checkpoints


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and a function that returns what the reader at its other end got."""
    path, content = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: content.append(path.read_bytes()), daemon=True)
    reader.start()

    def received():
        reader.join(10)
        return content[0]

    return path, received


def test_a_pipe_is_written_into(pipe, tmp_path):
    path, received = pipe
    write_lines(path, ["one", "two"])
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]
    assert received() == b"one\ntwo\n"


def test_a_checkpoint_goes_through_a_pipe(pipe):
    """Writing one needs a file in which it can seek."""
    path, received = pipe
    checkpoints.save({"model": {"a": torch.arange(3)}}, path)
    assert received().startswith(b"PK")


@pytest.mark.parametrize("name", ["/dev/full", "/dev/null"])
def test_a_device_stays_a_device(name, tmp_path, monkeypatch):
    """Also behind a link.  A mistake must not damage the device of this machine, so nothing can be renamed."""
    monkeypatch.setattr(Path, "replace", None)
    link = tmp_path / "device"
    link.symlink_to(name)
    if name == "/dev/full":
        with pytest.raises(OSError, match="No space left"):
            write_whole({link: b"x", tmp_path / "file": b"x"})
        assert not (tmp_path / "file").exists()
    else:
        write_lines(link, ["x"])
    assert Path(name).is_char_device()
    assert link.is_symlink()


def test_links_are_followed(tmp_path):
    """Also one whose file does not exist yet, and one to a folder; checkpoints of a run do not follow links."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far/old").write_text("old")
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(f"far/{name}")
        write_lines(tmp_path / name, [name])
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / name).read_text() == f"{name}\n"
    (tmp_path / "folder").symlink_to("far/folder")
    write_folder(tmp_path / "folder", {"a": b"1"}, [])
    assert (tmp_path / "far/folder/a").read_bytes() == b"1"
    checkpoints.copy_whole(str(tmp_path / "old"), str(tmp_path / "new"))
    assert not (tmp_path / "new").is_symlink()
    assert (tmp_path / "far/new").read_text() == "new\n"
    (tmp_path / "nowhere").symlink_to("no/such")
    with pytest.raises(InputError, match=r"there is no folder .*/no$"):
        require_file(tmp_path / "nowhere")


def test_a_folder_is_refused_before_any_work(tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("D-0\t-1\ta\n")
    (tmp_path / "b").mkdir()
    folder = str(tmp_path / "b")
    for command in (
        ["average", "no.pt", "--output", folder],
        ["convert", "no.pt", folder],
        ["convert", "no.pt", folder, "--to", "safetensors"],
        ["score", str(text), "--reference", str(text), "--output", folder],
        ["table", "no", "--output", folder],
    ):
        assert b2t(command) == 1
        message = capsys.readouterr().err
        assert f"{folder} " in message
        assert "a folder" in message
        assert message.count("\n") == 1
    with pytest.raises(InputError, match="is a device or a pipe"):
        require_prefix(tmp_path / os.devnull)
    assert not list((tmp_path / "b").iterdir())


PRINT_AND_WRITE = """
from pathlib import Path
from b2t_common.files import messages_beside, write_lines
print("before")
output = Path({output!r})
write_lines(output, ["content"])
print("message", file=messages_beside(output))
"""


@pytest.mark.parametrize(("output", "redirect"), [("/dev/stdout", ">"), ("/dev/stdout", "|cat>"), ("/dev/fd/5", "5>")])
def test_standard_output_is_written_into(output, redirect, tmp_path):
    """It keeps what was printed before, messages go elsewhere, and a file that it is redirected to is not replaced."""
    program, result = PRINT_AND_WRITE.format(output=output), tmp_path / "result"
    result.touch()
    before = result.stat().st_ino
    shell = f'"{sys.executable}" -c "$0" {redirect}"{result}"'
    run = subprocess.run(["bash", "-c", shell, program], cwd=ROOT, capture_output=True, text=True, check=True)
    is_stdout = output == "/dev/stdout"
    assert result.read_text() == ("before\ncontent\n" if is_stdout else "content\n")
    assert result.stat().st_ino == before
    assert (run.stderr if is_stdout else run.stdout).endswith("message\n")


def test_messages_go_to_standard_output_otherwise(tmp_path):
    for output in (None, tmp_path / "file", tmp_path / os.devnull):
        assert messages_beside(output) is sys.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [("path >/dev/full", "No space left on device"), ("--help | head -n 1", ""), ("path | true", "")],
)
def test_output_that_cannot_be_printed_needs_no_traceback(command, message):
    shell = f"\"{sys.executable}\" -c 'from b2t_cli import main; raise SystemExit(main())' {command}"
    run = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True)
    assert message in run.stderr
    assert run.stderr.count("\n") == bool(message)


@pytest.mark.parametrize("command", [["report", "run"], ["analyze", "--data", "data", "model.pt"]])
def test_text_writes_nothing_so_that_an_output_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        b2t([*command, "--text", "--output", "folder"])
    assert "argument --output: not allowed with argument --text" in capsys.readouterr().err

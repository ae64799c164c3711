"""``b2t translate``: every line has its translation, whatever it is, whoever translates it and whatever is killed."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import threading

import pytest
import spm
from commands import environment, script, stand_in
from helpers import ROOT

from b2t_cli import main as b2t
from b2t_cli.progress import duration
from b2t_cli.translating.long_lines import cut
from b2t_cli.translating.parts import Parts, scan
from b2t_cli.translating.translator import Translator
from b2t_fairseq.hub import from_pretrained

EARLIER = ROOT / "tests/golden/version_0_1_0"
MODEL = ["translate", str(EARLIER / "translation.pt"), "-s", "en", "-t", "de", "--cpu", "--pieces"]
SEARCH = ["--beam", "4", "--lenpen", "0.6", "--max-len-a", "0", "--max-len-b", "12"]
LINES = (EARLIER / "test.en").read_text().splitlines()
TRANSLATIONS = [line.split("\t")[2] for line in (EARLIER / "translation.fast.txt").read_text().splitlines()]


@pytest.fixture
def text(tmp_path):
    """The golden test set with empty lines, a line of blanks and a line separator of Unicode between its lines."""
    path = tmp_path / "text.en"
    path.write_text("\n".join(["", *LINES, "", " \u2028 ", LINES[0]]) + "\n")
    return path


EXPECTED = ["", *TRANSLATIONS, "", "", TRANSLATIONS[0]]


def translate(text, *flags, output="out.de"):
    """Translate in this process; return the lines of the output."""
    path = text.parent / output
    assert b2t([*MODEL, str(text), *SEARCH, "--output", str(path), *flags]) == 0
    return path.read_text().split("\n")[:-1]


def test_every_line_has_its_translation(text, capsys):
    """They are those of the recorded beam search; empty lines, also those of blanks, stay empty."""
    assert translate(text, "--lines-per-part", "5") == EXPECTED
    captured = capsys.readouterr()
    assert f"{len(EXPECTED)} lines in" in captured.out
    assert "3 of them empty" in captured.out
    assert f"{len(EXPECTED)} of {len(EXPECTED)} lines (100%)" in captured.err
    assert sorted(path.name for path in text.parent.iterdir()) == ["out.de", "text.en"]


def test_a_long_line_is_the_translations_of_its_pieces(text, capsys):
    words = [word for line in LINES[:4] for word in line.split()]
    text.write_text(" ".join(words) + "\n")
    together = translate(text, "--max-pieces", "4")
    text.write_text("".join(" ".join(words[start : start + 4]) + "\n" for start in range(0, len(words), 4)))
    assert together == [" ".join(translate(text, output="parts.de"))]
    assert "lines 1 to 1: 1 longer than 4 pieces" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "limit", "expected"),
    [
        ("▁a ▁b . ▁c ▁d ▁e", 4, ["▁a ▁b .", "▁c ▁d ▁e"]),
        ("▁a , ▁b ▁c ▁d ▁e ▁f", 3, ["▁a ,", "▁b ▁c ▁d", "▁e ▁f"]),
        ("▁a ▁b ▁c d ▁e", 3, ["▁a ▁b", "▁c d ▁e"]),
        ("▁a b c d e", 2, ["▁a b", "c d", "e"]),
        ("a@@ b c@@ d", 3, ["a@@ b", "c@@ d"]),
        ("▁a", 1, ["▁a"]),
    ],
)
def test_lines_are_cut_where_a_reader_would_pause(line, limit, expected):
    assert [" ".join(stretch) for stretch in cut(line.split(), limit)] == expected


def test_a_stopped_translation_goes_on(text, monkeypatch, capsys):
    """What was finished before a kill is not translated again, and other settings do not get mixed in."""
    calls = []
    whole = Translator.translate

    def stop_at_the_third(self, lines, number=0):
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, lines, number)

    monkeypatch.setattr(Translator, "translate", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        translate(text, "--lines-per-part", "5")
    assert not (text.parent / "out.de").exists()
    flags = [*MODEL, str(text), *SEARCH, "--output", str(text.parent / "out.de")]
    assert b2t([*flags, "--tag", "<BT>"]) == 1
    assert "--tag was None and is now '<BT>'" in capsys.readouterr().err
    # the size of the parts is taken from those that are there
    assert translate(text) == EXPECTED
    assert calls[:3] == [0, 1, 2]
    assert calls[3:] == list(range(2, -(-len(EXPECTED) // 5)))


def test_a_changed_text_is_refused(text, capsys):
    output = text.parent / "out.de"
    flags = [*MODEL, str(text), *SEARCH, "--output", str(output), "--parts-only"]
    assert b2t(flags) == 0
    assert not output.exists()
    text.write_text(text.read_text().replace(LINES[0], LINES[1]))
    assert b2t(flags) == 1
    assert "SHA-256 of the text was" in capsys.readouterr().err


def test_processes_share_the_parts(text):
    """A part that another process translates is left to it; when it dies, the part is translated by the last call."""
    output = text.parent / "out.de"
    args = argparse.Namespace(run=EARLIER / "translation.pt")
    ready, hold = os.pipe()
    flags = ["--lines-per-part", "5", "--parts-only"]
    assert b2t([*MODEL, str(text), *SEARCH, "--output", str(output), *flags]) == 0
    folder = output.with_name("out.de.parts")
    settings = {k: v for k, v in json.loads((folder / "settings.json").read_text()).items() if "text" not in k}
    settings.pop("lines per part")
    assert settings["model"] == str(args.run.resolve())
    (folder / "0000001.txt").unlink()
    child = os.fork()
    if not child:
        parts = Parts(output, scan(text, 5), settings)
        for number, _ in parts.unclaimed():
            os.write(hold, str(number).encode())
            signal.pause()
        os._exit(1)
    assert os.read(ready, 1) == b"1"
    assert b2t([*MODEL, str(text), *SEARCH, "--output", str(output), *flags]) == 0
    assert not (folder / "0000001.txt").exists()

    def kill():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    waiting = threading.Timer(0.2, kill)
    waiting.start()
    assert translate(text) == EXPECTED
    waiting.join()
    for end in (ready, hold):
        os.close(end)


def test_sampling_does_not_depend_on_who_translates_what(text):
    """Each part draws its own random numbers, from --seed."""
    text.write_text("".join(f"{line}\n" for line in LINES[:8]))
    flags = ["--sampling", "--beam", "1", "--lines-per-part", "3", "--max-len-b", "12"]
    search = [*MODEL, str(text), "--max-len-a", "0", *flags]
    whole, parted = text.parent / "whole.de", text.parent / "parted.de"
    assert b2t([*search, "--output", str(whole)]) == 0
    assert b2t([*search, "--output", str(parted), "--parts-only"]) == 0
    for number in (2, 0):
        (text.parent / f"parted.de.parts/{number:07d}.txt").unlink()
    assert b2t([*search, "--output", str(parted)]) == 0
    assert whole.read_text() == parted.read_text()
    assert b2t([*search, "--output", str(text.parent / "other.de"), "--seed", "2"]) == 0
    assert whole.read_text() != (text.parent / "other.de").read_text()


def test_a_run_with_its_sentencepiece_and_a_tag(tmp_path):
    """Text goes through the run's own pieces, as in Python; the tag stands before translations that are not empty."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(EARLIER / "translation.pt", run / "averaged.pt")
    for language in ("en", "de"):
        shutil.copy(EARLIER / "dict.en.txt", run / f"dict.{language}.txt")
    spm.train(run / "spm", [EARLIER / "test.en"], 15, "bpe")
    (tmp_path / "text").write_text(f"{LINES[0]}\n\n{LINES[1]}")
    output = tmp_path / "out"
    flags = ["--beam", "2", "--max-len-a", "0", "--max-len-b", "9", "--tag", "<BT>", "--cpu", "-s", "en", "-t", "de"]
    assert b2t(["translate", str(run), str(tmp_path / "text"), "--output", str(output), *flags]) == 0
    first, second = from_pretrained(run, source_lang="en", target_lang="de").translate(LINES[:2], beam=2, max_len_b=9)
    assert output.read_text() == f"<BT> {first}\n\n<BT> {second}\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output", "there.de"], "--output there.de exists already; delete it"),
        (["--output", "nowhere/out.de"], "there is no folder nowhere"),
        (["--output", "/dev/null"], "--output /dev/null is no file"),
        (["--beam", "0"], "--beam 0: give a positive number"),
        (["--sampling", "--beam", "4"], "give --beam 1 in place of 4"),
        (["--seed", "3"], "--seed 3 has no effect without --sampling"),
        (["--sampling-topk", "5"], "--sampling-topk 5 has no effect without --sampling"),
        (["--tag", "two words"], "--tag 'two words': give one word"),
        (["--fp16"], "--fp16 is for GPUs"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(text, flags, message, monkeypatch, capsys):
    monkeypatch.chdir(text.parent)
    (text.parent / "there.de").touch()
    given = flags if "--output" in flags else [*flags, "--output", "out.de"]
    for dry_run in (["--dry-run"], []):
        assert b2t([*MODEL, str(text), *given, *dry_run]) == 1
        assert message in capsys.readouterr().err
        # a folder of parts would keep these settings, and the next call could not give others
        assert sorted(path.name for path in text.parent.iterdir()) == ["text.en", "there.de"]


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"a\n\xff\n", "not UTF-8 in line 2")])
def test_a_text_that_cannot_be_read_is_refused(text, content, message, capsys):
    text.write_bytes(content)
    assert b2t([*MODEL, str(text), "--output", str(text.parent / "out.de")]) == 1
    assert message in capsys.readouterr().err


def test_a_run_without_its_pieces_is_refused(text, capsys):
    flags = [word for word in MODEL if word != "--pieces"]
    assert b2t([*flags, str(text), "--output", str(text.parent / "out.de"), "--dry-run"]) == 1
    assert "translation.pt has no spm.model" in capsys.readouterr().err


def test_durations_have_hours_only_if_needed():
    assert [duration(seconds) for seconds in (5, 125, 3725)] == ["0:05", "2:05", "1:02:05"]


FAKE_B2T = """
echo "$*" >>"$CALLS"
case " $* " in
    *" --dry-run "*) exit "${REFUSES:-0}" ;;
    *" --parts-only "*)
        [ -z "${READY:-}" ] || { echo $$ >"$READY" && exec tail -f /dev/null; }
        exit "${FAILS:-0}"
        ;;
esac
"""


class TestScript:
    """scripts/translate_corpus.sh, with a stand-in for b2t."""

    @pytest.fixture
    def call(self, tmp_path):
        (tmp_path / "text.en").write_text("a\nb\n")
        variables = {"PATH": stand_in(tmp_path / "bin", "b2t", FAKE_B2T), "CALLS": str(tmp_path / "calls")}
        given = [tmp_path, tmp_path / "text.en", "--output", tmp_path / "out.de", "--cpu"]

        def run(*flags, **more):
            result = script("translate_corpus.sh", *given, *flags, check=False, **{**variables, **more})
            calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
            return result, calls

        return run

    def test_processes_share_the_work_and_the_last_call_joins(self, call):
        result, calls = call("--processes", "3", "--beam=2")
        assert result.returncode == 0, result.stdout
        assert [call.split()[-1] for call in calls] == ["--dry-run", *["--parts-only"] * 3, "2"]
        assert all("--cpu --beam 2" in call for call in calls)

    def test_what_is_refused_is_refused_once(self, call):
        result, calls = call("--processes", "3", REFUSES="1")
        assert result.returncode == 1
        assert len(calls) == 1

    def test_a_process_that_fails_is_not_the_end_of_the_others(self, call):
        result, calls = call("--processes", "2", FAILS="1")
        assert result.returncode == 1
        assert "the same command continues" in result.stdout
        assert len(calls) == 3

    def test_a_signal_ends_all_processes(self, tmp_path):
        (tmp_path / "text.en").write_text("a\n")
        os.mkfifo(tmp_path / "ready")
        variables = {"PATH": stand_in(tmp_path / "bin", "b2t", FAKE_B2T), "CALLS": str(tmp_path / "calls")}
        given = [str(tmp_path), str(tmp_path / "text.en"), "--output", str(tmp_path / "out.de"), "--cpu"]
        command_line = ["bash", str(ROOT / "scripts/translate_corpus.sh"), *given, "--processes", "2"]
        env = environment(READY=str(tmp_path / "ready"), **variables)
        with subprocess.Popen(command_line, env=env, stderr=subprocess.PIPE, text=True) as process:
            workers: list[int] = []
            while len(workers) < 2:
                workers += map(int, (tmp_path / "ready").read_text().split())
            process.terminate()
            message = process.communicate(timeout=60)[1]
        assert process.returncode == 75
        assert "the same command continues" in message
        for worker in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(worker, 0)

    def test_bad_arguments_are_refused(self, call):
        for flags, message in ((["--processes", "0"], "--processes 0"), (["third"], "unexpected argument third")):
            assert message in call(*flags)[0].stdout

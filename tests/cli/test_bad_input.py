"""Bad input gets a clear error, and nothing is lost: no half file is ever taken for a whole one."""

import fcntl
import hashlib
import http.server
import importlib.util
import pickle
import resource
import subprocess
import sys
import threading
from collections import OrderedDict
from typing import ClassVar

import pytest
import spm
import torch
from attacks import Attack
from helpers import ROOT, make_model, randomize
from training import PLUGIN, SHARED, binarize, load, run, train, write_corpus

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints

THREE = {"encoder_unique_layers": 3, "decoder_unique_layers": 3}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    binarize(folder)
    return folder


def state_of(**flags):
    return randomize(make_model(**flags)).state_dict()


class TestCheckpointOfAnotherModel:
    @pytest.mark.parametrize(
        ("saved", "indices"),
        [
            ({"layer_sharing": "cycle", **THREE}, "0 1 2 0 1 2"),
            ({}, "0 1 2 3 4 5"),
            (
                {"layer_sharing": "sequence", "encoder_unique_layers": 1, "decoder_unique_layers": 1},
                "0 0 0 0 0 0",
            ),
        ],
    )
    def test_other_sharing(self, saved, indices):
        model = randomize(make_model(layer_sharing="sequence", **THREE))
        with pytest.raises(RuntimeError) as error:
            model.load_state_dict(state_of(**saved))
        message = str(error.value)
        assert f"encoder layers use the parameter sets {indices}" in message
        assert "decoder layers" in message
        assert "this model uses 0 0 1 1 2 2 (--layer-sharing sequence --encoder-unique-layers 3)" in message

    @pytest.mark.parametrize(("saved", "built"), [("post_ln", "b2t"), ("b2t", "post_ln")])
    def test_other_scheme(self, saved, built):
        """Names and shapes are the same; only the checkpoint's metadata tells."""
        with pytest.raises(RuntimeError, match=f"--residual {saved}.*--residual {built}"):
            make_model(residual=built).load_state_dict(state_of(residual=saved))

    def test_other_scheme_from_a_file(self, corpus, tmp_path):
        train(str(corpus / "bin"), tmp_path, "--residual", "post_ln", "--max-update", "1")
        before = hashlib.sha256((tmp_path / "checkpoint_last.pt").read_bytes()).hexdigest()
        with pytest.raises(Exception, match="Cannot load model parameters") as error:
            train(str(corpus / "bin"), tmp_path, "--residual", "b2t", "--max-update", "2")
        assert "trained with --residual post_ln" in str(error.value.__context__)
        assert hashlib.sha256((tmp_path / "checkpoint_last.pt").read_bytes()).hexdigest() == before

    def test_same_model_loads(self):
        flags = {"layer_sharing": "cycle_rev", **THREE}
        state = state_of(**flags)
        model = make_model(**flags)
        model.load_state_dict(state)
        for name, tensor in model.state_dict().items():
            if tensor.numel() > 1:
                assert torch.equal(tensor, state[name])

    def test_stock_checkpoint_loads(self):
        stock = randomize(make_model("transformer")).state_dict()
        make_model(residual="post_ln").load_state_dict(stock)

    def test_stock_run_does_not_go_on_as_b2t(self, corpus, tmp_path, capsys):
        stock = ["--arch", "transformer_tiny", "--max-update", "1"]
        train(str(corpus / "bin"), tmp_path, *stock, command=b2t_train)
        train(str(corpus / "bin"), tmp_path, *stock, "--max-update", "2", command=b2t_train)
        with pytest.raises(InputError, match=r"residual Post-LN there, B2T here"):
            train(str(corpus / "bin"), tmp_path, "--residual", "b2t", "--max-update", "3", command=b2t_train)
        train(str(corpus / "bin"), tmp_path, "--residual", "post_ln", "--max-update", "3", command=b2t_train)

    def test_other_spellings_of_the_same_run_are_accepted(self, corpus, tmp_path):
        pre_ln = ["--residual", "pre_ln", "--max-update"]
        explicit = ["--encoder-normalize-before", "--decoder-normalize-before"]
        train(str(corpus / "bin"), tmp_path, *pre_ln, "1", *explicit, command=b2t_train)
        train(str(corpus / "bin"), tmp_path, *pre_ln, "2", "--dropout", "0.2", command=b2t_train)

    def test_other_languages(self, corpus, tmp_path):
        train(str(corpus / "bin"), tmp_path, "--max-update", "1", command=b2t_train)
        with pytest.raises(InputError, match="languages en-de there, de-en here"):
            train(str(corpus / "bin"), tmp_path, "-s", "de", "-t", "en", "--max-update", "2", command=b2t_train)

    def test_diverged_checkpoint_is_not_blamed_on_sharing(self):
        flags = {"layer_sharing": "cycle_rev", **THREE}
        state = state_of(**flags)
        state["encoder.layers.0.fc1.weight"].fill_(float("nan"))
        make_model(**flags).load_state_dict(state)

    def test_save_folder_of_another_run(self, corpus, tmp_path, capsys):
        train(str(corpus / "bin"), tmp_path, *SHARED, "--max-update", "1")
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        argv = [
            "train",
            str(corpus / "bin"),
            "--arch",
            "b2t_transformer_tiny",
            "--max-tokens",
            "160",
            "--cpu",
        ]
        assert b2t([*argv, "--optimizer", "adam", "--lr", "0.1", "--save-dir", str(tmp_path)]) == 1
        message = capsys.readouterr().err
        assert f"--save-dir {tmp_path} holds another run" in message
        assert "layer_sharing cycle_rev there, none here" in message
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


class TestCheckpointThatCarriesCode:
    @pytest.fixture
    def attack(self, tmp_path):
        path = tmp_path / "checkpoint_last.pt"
        torch.save({"model": OrderedDict(), "cfg": Attack(tmp_path / "ran"), "args": None}, path)
        yield path
        assert not (tmp_path / "ran").exists()

    def test_the_attack_would_work(self, tmp_path):
        pickle.loads(pickle.dumps(Attack(tmp_path / "ran")))
        assert (tmp_path / "ran").exists()

    def test_load(self, attack):
        with pytest.raises(ValueError, match="holds more than tensors and settings"):
            checkpoints.load(attack)

    def test_our_commands(self, attack, tmp_path, capsys):
        assert b2t(["average", str(attack), "--output", str(tmp_path / "x.pt")]) == 1
        assert "is not opened" in capsys.readouterr().err

    def test_fairseq_generate(self, attack, corpus):
        result = run(
            *("fairseq-generate", str(corpus / "bin"), "--user-dir", PLUGIN, "--path", str(attack), "--cpu"),
            check=False,
        )
        assert result.returncode != 0
        assert "weights_only" in result.stdout + result.stderr

    def test_resume(self, attack, corpus, tmp_path):
        with pytest.raises(ValueError, match="is not opened"):
            train(str(corpus / "bin"), tmp_path, "--max-update", "1", command=b2t_train)
        with pytest.raises(pickle.UnpicklingError):
            train(str(corpus / "bin"), tmp_path, "--max-update", "1")


class TestHalfFiles:
    def test_truncated_checkpoint(self, tmp_path):
        checkpoints.save({"model": {"a": torch.zeros(1000)}}, tmp_path / "whole.pt")
        content = (tmp_path / "whole.pt").read_bytes()
        for length in (0, 10, len(content) // 2, len(content) - 1):
            (tmp_path / "half.pt").write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"half\.pt is not a whole checkpoint"):
                checkpoints.load(tmp_path / "half.pt")

    def test_not_a_checkpoint(self, tmp_path):
        torch.save([1, 2], tmp_path / "list.pt")
        with pytest.raises(ValueError, match="not a fairseq checkpoint"):
            checkpoints.load(tmp_path / "list.pt")
        with pytest.raises(InputError, match=r"none\.pt: no such checkpoint"):
            checkpoints.load(tmp_path / "none.pt")

    def test_full_disk(self, tmp_path):
        """A limit on the size of files stands in for a full disk: the old file stays, no half one appears."""
        checkpoints.save({"model": {"a": torch.zeros(3)}}, tmp_path / "model.pt")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(OSError, match=r"model\.pt|large|space"):
                checkpoints.save({"model": {"a": torch.zeros(100_000)}}, tmp_path / "model.pt")
            (tmp_path / "source").write_bytes(b"x" * 10_000)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
            with pytest.raises(OSError, match=r"large|space"):
                checkpoints.copy_whole(str(tmp_path / "source"), str(tmp_path / "model.pt"), overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert checkpoints.load(tmp_path / "model.pt")["model"]["a"].shape == (3,)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["model.pt", "source"]

    def test_fairseq_copies_checkpoints_whole(self):
        from fairseq.checkpoint_utils import PathManager

        assert PathManager.copy is checkpoints.copy_whole

    def test_training_on_a_full_disk_keeps_the_last_checkpoint(self, corpus, tmp_path):
        train(str(corpus / "bin"), tmp_path, "--max-update", "1")
        before = (tmp_path / "checkpoint_last.pt").read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("time.sleep", lambda seconds: None)  # fairseq tries three times, seconds apart
                with pytest.raises((OSError, RuntimeError)):
                    train(str(corpus / "bin"), tmp_path, "--max-update", "2")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / "checkpoint_last.pt").read_bytes() == before
        assert train(str(corpus / "bin"), tmp_path, "--max-update", "2")["optimizer_history"][-1]["num_updates"] == 2


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTENT = b"a file of which the server may send a part only\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    requests = 0
    ranges: ClassVar[list] = []

    def do_GET(self):
        type(self).requests += 1
        kind = self.path.strip("/")
        failing = kind == "cut" or (kind == "flaky" and self.requests < 3)
        if kind == "busy" or kind == "missing":
            self.send_error(503 if kind == "busy" else 404)
            return
        body = CONTENT.replace(b"part", b"PART") if kind == "wrong" else CONTENT
        if kind.startswith("resumable"):
            tag = '"new"' if kind == "resumable-changed" and self.requests > 1 else '"old"'
            start = self.headers.get("Range") if self.headers.get("If-Range") == tag else None
            body = body[int(start.removeprefix("bytes=").removesuffix("-")) :] if start else body
            type(self).ranges.append(self.headers.get("Range"))
            failing = self.requests < 3
            self.send_response(206 if start else 200)
            self.send_header("ETag", tag)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if failing else body)

    def log_message(self, *arguments):
        """Keep the tests' output clean."""


class TestDownload:
    @pytest.fixture
    def url(self):
        Server.requests = 0
        Server.ranges.clear()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_whole_file_once(self, url, tmp_path):
        fetch = script("fetch").fetch
        assert fetch(f"{url}/whole", tmp_path / "sub/file", SHA256)
        assert (tmp_path / "sub/file").read_bytes() == CONTENT
        assert not fetch(f"{url}/whole", tmp_path / "sub/file", SHA256)
        assert Server.requests == 1

    def test_local_files_with_odd_names(self, tmp_path):
        (tmp_path / "a b#c%20d").write_bytes(CONTENT)
        assert script("fetch").fetch(str(tmp_path / "a b#c%20d"), tmp_path / "file", SHA256)
        with pytest.raises(OSError, match="attempts: 1"):
            script("fetch").fetch(str(tmp_path / "none"), tmp_path / "other", SHA256)

    def test_interrupted_transfers_are_repeated(self, url, tmp_path):
        assert script("fetch").fetch(f"{url}/flaky", tmp_path / "file", SHA256, pause=0)
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert Server.requests == 3

    @pytest.mark.parametrize("checksum", [SHA256, "-"])
    def test_cut_transfers_go_on_where_they_ended(self, url, tmp_path, checksum):
        assert script("fetch").fetch(f"{url}/resumable", tmp_path / "file", checksum, pause=0)
        half = len(CONTENT) // 2
        assert Server.ranges == [None, f"bytes={half}-", f"bytes={half + (len(CONTENT) - half) // 2}-"]
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert [file.name for file in tmp_path.iterdir()] == ["file"]

    def test_a_later_call_goes_on(self, url, tmp_path, monkeypatch):
        fetch = script("fetch")
        monkeypatch.setattr(fetch, "ATTEMPTS", 1)
        with pytest.raises(OSError, match="ended after"):
            fetch.fetch(f"{url}/resumable", tmp_path / "file", SHA256)
        Server.requests = 2
        assert fetch.fetch(f"{url}/resumable", tmp_path / "file", SHA256)
        assert Server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
        assert (tmp_path / "file").read_bytes() == CONTENT

    def test_parts_of_two_versions_are_not_joined(self, url, tmp_path):
        assert script("fetch").fetch(f"{url}/resumable-changed", tmp_path / "file", "-", pause=0)
        assert (tmp_path / "file").read_bytes() == CONTENT

    @pytest.mark.parametrize(
        ("kind", "error", "requests"),
        [("cut", OSError, 4), ("busy", OSError, 4), ("missing", OSError, 1), ("wrong", ValueError, 1)],
    )
    def test_failure_leaves_what_was_there(self, url, tmp_path, kind, error, requests):
        (tmp_path / "file").write_bytes(b"an older file")
        with pytest.raises(error, match=kind):
            script("fetch").fetch(f"{url}/{kind}", tmp_path / "file", SHA256, pause=0)
        assert [file.name for file in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_bytes() == b"an older file"
        assert Server.requests == requests


class TestText:
    def test_sentencepiece_encodes_line_by_line(self, tmp_path):
        """Only LF ends a line: other Unicode separators must not shift one side against the other."""
        (tmp_path / "text").write_text("a b c d e\n" * 50)
        spm.train(tmp_path / "spm", [tmp_path / "text"], vocab_size=12, model_type="bpe")
        (tmp_path / "odd").write_text("a\u2028b\nc\x85d\r\n\ne\n", newline="")
        assert spm.encode(tmp_path / "spm.model", tmp_path / "odd", tmp_path / "pieces") == 4
        assert (tmp_path / "pieces").read_bytes().count(b"\n") == 4

    def test_sentencepiece_refuses_what_is_not_utf8(self, tmp_path):
        (tmp_path / "text").write_text("a b c d e\n" * 50)
        script("spm").train(tmp_path / "spm", [tmp_path / "text"], vocab_size=12, model_type="bpe")
        (tmp_path / "latin1").write_bytes("schön\n".encode("latin-1"))
        encode = [sys.executable, str(ROOT / "scripts/corpus/spm.py"), "encode", str(tmp_path / "spm.model")]
        result = subprocess.run(
            [*encode, str(tmp_path / "latin1"), str(tmp_path / "out")], capture_output=True, text=True
        )
        assert result.returncode == 1
        assert "latin1 is not UTF-8" in result.stderr
        assert not list(tmp_path.glob("out*"))

    def test_sentencepiece_on_too_little_text(self, tmp_path):
        (tmp_path / "text").write_text("a\n")
        train_it = [sys.executable, str(ROOT / "scripts/corpus/spm.py"), "train", str(tmp_path / "spm")]
        result = subprocess.run(
            [*train_it, str(tmp_path / "text"), "--vocab-size", "4000"], capture_output=True, text=True
        )
        assert result.returncode == 1
        assert "error: " in result.stderr
        assert not list(tmp_path.glob("spm*"))

    def test_score_of_empty_and_undecodable_files(self, tmp_path, capsys):
        (tmp_path / "generated").write_text("D-0\t-0.1\tein Haus\n")
        (tmp_path / "empty").write_text("")
        (tmp_path / "latin1").write_bytes("schön\n".encode("latin-1"))
        for name, message in (
            ("empty", "empty is empty"),
            ("latin1", "latin1 is not UTF-8"),
            ("none", "none"),
        ):
            assert b2t(["score", str(tmp_path / "generated"), "--reference", str(tmp_path / name)]) == 1
            assert message in capsys.readouterr().err


def bash(code):
    return subprocess.run(["bash", "-c", f". '{ROOT}/scripts/lib.sh'; {code}"], capture_output=True, text=True)


class TestDrivers:
    def test_sides_that_do_not_belong_together(self, tmp_path, monkeypatch):
        files = {
            "two": b"one\ntwo\n",
            "two unfinished": b"one\ntwo",
            "one": b"eins\n",
            "separator": "eins\u2028noch\x85eins\n".encode(),
            "empty": b"",
            "latin1": "zwei\nschön\n".encode("latin-1"),
        }
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        check = script("check_parallel").main

        def message(first, second):
            monkeypatch.setattr(sys, "argv", ["check", str(tmp_path / first), str(tmp_path / second)])
            try:
                check()
            except SystemExit as error:
                return str(error)
            return ""

        assert "two has 2 lines, but" in message("two", "one")
        assert "one has 1" in message("two", "one")
        assert "one has 1" in message("two unfinished", "one")
        assert message("two", "two unfinished") == ""
        assert message("one", "separator") == ""
        assert "empty is empty" in message("empty", "empty")
        assert "latin1 is not UTF-8 in line 2" in message("two", "latin1")
        assert "No such file" in message("two", "none")

    def test_disk_space_is_checked_first(self, tmp_path):
        result = bash(f"free_space {tmp_path} 999999999999")
        assert result.returncode == 1
        assert "999999999999 MB are needed" in result.stderr

    def test_second_quickstart_in_one_folder(self, tmp_path):
        with open(tmp_path / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            result = bash(f"lock {tmp_path}/.lock 'somebody is at work'")
        assert result.returncode == 1
        assert "somebody is at work" in result.stderr
        assert bash(f"lock {tmp_path}/.lock 'somebody is at work'").returncode == 0
        assert 'lock "$work/.lock"' in (ROOT / "scripts/quickstart.sh").read_text()

    def test_interrupted_stages_run_again(self, tmp_path):
        assert bash(f"stage {tmp_path} one false").returncode != 0
        assert bash(f"stage {tmp_path} one echo first").stdout == "first\n"
        assert bash(f"stage {tmp_path} one echo second").stdout == "one: done before, in 0 s\n"

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--corpus", "wmt"], "--corpus wmt: choose grammar or multi30k"),
            (["--from", "/"], "only --corpus multi30k"),
            (["--corpus", "multi30k", "--from", "/nowhere"], "--from /nowhere: no such folder"),
            (["--config", "/nowhere.sh"], "--config /nowhere.sh: no such file"),
            (["--work"], "--work needs a value"),
            (["--worck", "x"], "unknown option --worck"),
        ],
    )
    def test_quickstart_options(self, flags, message):
        result = subprocess.run(["bash", str(ROOT / "scripts/quickstart.sh"), *flags], capture_output=True, text=True)
        assert result.returncode == 1
        assert message in result.stderr

    @pytest.mark.parametrize("name", ["quickstart", "setup", "test"])
    def test_help(self, name):
        result = subprocess.run(
            ["bash", str(ROOT / f"scripts/{name}.sh"), "--help"], capture_output=True, text=True, check=True
        )
        assert f"bash scripts/{name}.sh" in result.stdout


class TestFairseqVersion:
    def importing(self, tmp_path, setup):
        code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; {setup}import b2t_fairseq"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    def test_broken_release(self, tmp_path):
        (tmp_path / "fairseq").mkdir()
        (tmp_path / "fairseq/__init__.py").write_text("raise RuntimeError('imported')\n")
        (tmp_path / "fairseq/version.py").write_text('__version__ = "0.12.2"\n')
        result = self.importing(tmp_path, "")
        assert "ImportError: b2t_fairseq cannot work with fairseq 0.12.2" in result.stderr
        assert "pip install --no-build-isolation fairseq-fixed==0.12.3.1" in result.stderr

    def test_no_fairseq(self, tmp_path):
        hide = "import importlib.util as u; f = u.find_spec; "
        hide += "u.find_spec = lambda name, *a: None if name == 'fairseq' else f(name, *a); "
        result = self.importing(tmp_path, hide)
        assert "ImportError: b2t_fairseq needs fairseq, which is not installed" in result.stderr
        assert "scripts/setup.sh" in result.stderr

    def test_import_prints_nothing(self, tmp_path):
        result = self.importing(tmp_path, "")
        assert result.returncode == 0
        assert result.stdout == ""
        assert "INFO" not in result.stderr

    def test_last_checkpoint_type_is_weights_only(self, corpus, tmp_path):
        train(str(corpus / "bin"), tmp_path, *SHARED, "--max-update", "1")
        load(tmp_path / "checkpoint_last.pt")

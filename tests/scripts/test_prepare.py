"""scripts/prepare_wmt14_en_de.sh: from WMT's archives to binary data, whatever interrupts it on the way."""

import contextlib
import functools
import gzip
import http.server
import json
import re
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from commands import BIN, stand_in
from fairseq.data import Dictionary, indexed_dataset
from wmt import PARTS, pairs, prepare, write_archives, write_table

NEWSTESTS = [f"newstest{year}" for year in range(2010, 2017)]


def sentences(folder, split, language):
    """Return the sentences of binary data, as pieces."""
    dictionary = Dictionary.load(str(folder / f"bin/dict.{language}.txt"))
    data = indexed_dataset.make_dataset(str(folder / f"bin/{split}.en-de.{language}"), impl="mmap")
    return [dictionary.string(data[i]) for i in range(len(data))]


def text_of(pieces):
    """Return the sentence of SentencePiece's pieces."""
    return pieces.replace(" ", "").replace("▁", " ").strip()


class TestWholePath:
    def test_binary_data_is_the_text(self, world, prepared):
        """It has every pair of the three archives in order, newstest2013 to validate, and all seven sets to test."""
        expected = [pair for seed, (_, _, count) in enumerate([*PARTS.values()][:3]) for pair in pairs(count, seed)]
        for side, language in enumerate(("en", "de")):
            text = [text_of(line) for line in sentences(prepared, "train", language)]
            assert text == [pair[side] for pair in expected]
            for number, name in enumerate(NEWSTESTS):
                test = [text_of(line) for line in sentences(prepared, f"test{number or ''}", language)]
                assert test == [pair[side] for pair in pairs(5, 100 + number)], name
            assert sentences(prepared, "valid", language) == sentences(prepared, "test3", language)
        assert (prepared / "bin/test_sets.txt").read_text().split() == NEWSTESTS
        assert len(Dictionary.load(str(prepared / "bin/dict.en.txt"))) == 120
        assert (prepared / "bin/dict.en.txt").read_bytes() == (prepared / "bin/dict.de.txt").read_bytes()

    def test_the_manifest_lists_files_lines_and_counts(self, prepared):
        """It does not name the folder, so that two preparations can be compared."""
        manifest = json.loads((prepared / "manifest.json").read_text())
        assert manifest["files"]["clean/train.en"]["lines"] == manifest["files"]["clean/train.de"]["lines"] == 350
        assert {"bin/train.en-de.de.bin", "subwords/spm.model", "archives.sha256"} <= manifest["files"].keys()
        assert manifest["files"]["archives.sha256"]["lines"] == 3
        assert json.loads((prepared / "clean/train.json").read_text())["europarl-v7"] == {"pairs": 150, "kept": 150}
        assert str(prepared) not in (prepared / "manifest.json").read_text()

    def test_a_second_call_does_nothing(self, world, prepared):
        before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*.*") if path.is_file()}
        assert prepare(world, prepared).stdout.count("done before") == 5
        assert before == {path: path.stat().st_mtime_ns for path in prepared.rglob("*.*") if path.is_file()}

    def test_other_settings_are_refused(self, world, prepared):
        result = prepare(world, prepared, "--max-words", 5, check=False)
        assert result.returncode == 1
        assert "there: max-words 80" in result.stdout
        assert "now:   max-words 5" in result.stdout
        assert "was begun with other settings" in result.stdout

    @pytest.mark.slow
    def test_interrupted_at_every_stage(self, world, prepared):
        """However often a command is cut while it writes and the script is killed, the manifest becomes the same."""
        out = world / "interrupted"
        commands = ["fetch.py", "test_sets.py", "unpack.py", "clean.py", "spm.py train", "spm.py encode"]
        commands += ["fairseq-preprocess", "manifest.py"]
        for number, command in enumerate(commands):
            # In its first call the command may write 1,024 bytes to a file; then the script is killed.
            kill = (
                f'case "$0 $*" in *"{command}"*) if mkdir "{out}.{number}" 2>/dev/null; then\n'
                f'(ulimit -f 1; "{BIN}/$(basename "$0")" "$@") >/dev/null 2>&1; kill -9 $PPID; exit 1; fi;; esac\n'
                f'exec "{BIN}/$(basename "$0")" "$@"\n'
            )
            for name in ("python", "fairseq-preprocess"):
                path = stand_in(world / "bin", name, kill)
            result = prepare(world, out, check=False, PATH=path)
            assert result.returncode == -9, (command, result.stdout)
        result = prepare(world, out)
        assert result.stdout.count("done before") == 4
        assert (out / "manifest.json").read_text() == (prepared / "manifest.json").read_text()
        leftovers = [path for path in out.rglob("*") if ".tmp" in path.name or ".part" in path.name]
        assert [path for path in leftovers if (out / "bin") in path.parents] == []

    def test_text_of_ones_own_may_be_packed(self, world, tmp_path):
        for side, language in enumerate(("en", "de")):
            with gzip.open(tmp_path / f"own.{language}.gz", "wt", encoding="utf-8") as file:
                file.writelines(f"{pair[side]}\n" for pair in pairs(100, 7))
        arguments = ("--corpus", tmp_path / "own", "--stop-stage", 2)
        prepare(world, tmp_path / "out", *arguments)
        assert (tmp_path / "out/clean/train.de").read_text().splitlines() == [pair[1] for pair in pairs(100, 7)]
        # Other text under the same name is noticed.
        with gzip.open(tmp_path / "own.de.gz", "at") as file:
            file.write("more\n")
        assert "now:   corpus own.de.gz" in prepare(world, tmp_path / "out", *arguments, check=False).stdout

    @pytest.mark.slow
    def test_moses_bpe_and_another_news_commentary_can_be_chosen(self, world, tmp_path):
        prepare(world, tmp_path / "out", "--tokenization", "moses_bpe", "--news-commentary", "v11")
        text = [line.replace("@@ ", "") for line in sentences(tmp_path / "out", "train", "de")]
        expected = [pair[1] for seed in (0, 1, 3) for pair in pairs([*PARTS.values()][seed][2], seed)]
        assert text == expected
        assert (tmp_path / "out/bin/detokenize.txt").read_text().split() == ["--remove-bpe", "--tokenizer", "moses"]


class TestDownload:
    def test_a_server_with_faults_does_no_harm(self, world, tmp_path):
        """The server answers each file first with 503, then with half of it, then with all of it.

        One archive has other text, which its number of lines shows; the same command fetches it again. From then on
        the checksums of all archives are known.
        """
        mirror = tmp_path / "mirror"
        shutil.copytree(world / "mirror", mirror)
        write_archives(tmp_path / "other", scale=0.5)
        other = "wmt13/training-parallel-europarl-v7.tgz"
        shutil.copy(tmp_path / "other" / other, mirror / other)
        with served(mirror) as url:
            out, settings = tmp_path / "out", {"WMT_MIRROR": url, "FETCH_PAUSE": "0"}
            result = prepare(world, out, "--stop-stage", 2, check=False, **settings)
            assert result.returncode == 1
            assert "has 75 pairs, not 150" in result.stdout
            assert "the same command downloads it again" in result.stdout
            assert all(count == 3 for count in FaultyHandler.requests.values()), FaultyHandler.requests
            shutil.copy(world / "mirror" / other, mirror / other)
            prepare(world, out, "--stop-stage", 2, **settings)
            assert FaultyHandler.requests[f"/{other}"] == 4
            sums = (out / "archives.sha256").read_text()
            (out / "archives" / "training-parallel-nc-v9.tgz").write_bytes(b"something else")
            prepare(world, out, "--stage", 1, "--stop-stage", 1, **settings)
            assert (out / "archives" / "training-parallel-nc-v9.tgz").stat().st_size > 1000
            assert (out / "archives.sha256").read_text() == sums

    def test_an_archive_is_not_blamed_for_a_full_disk(self, world, tmp_path):
        limited = f'case "$*" in *unpack.py*) ulimit -f 1;; esac; exec "{BIN}/python" "$@"\n'
        path = stand_in(tmp_path / "bin", "python", limited)
        result = prepare(world, tmp_path / "out", "--stop-stage", 2, check=False, PATH=path)
        assert result.returncode == 1
        assert "could not be unpacked, see above" in result.stdout
        assert len(list((tmp_path / "out/archives").glob("*.tgz"))) == 3

    def test_a_server_that_is_down_is_reported(self, world, tmp_path):
        result = prepare(world, tmp_path / "out", check=False, WMT_MIRROR="http://127.0.0.1:9", FETCH_PAUSE="0")
        assert result.returncode == 1
        assert "europarl-v7.tgz could not be fetched" in result.stdout
        assert "attempts: 4" in result.stdout

    def test_local_archives_are_used_and_never_deleted(self, world, tmp_path):
        """A damaged or missing one is named."""
        archives = tmp_path / "my archives"
        archives.mkdir()
        for path in (world / "mirror").rglob("*.tgz"):
            shutil.copy(path, archives)
        broken = archives / "training-parallel-commoncrawl.tgz"
        whole = broken.read_bytes()
        broken.write_bytes(whole[: len(whole) // 2])
        arguments = ("--archives", archives, "--stop-stage", 2)
        result = prepare(world, tmp_path / "out", *arguments, check=False, WMT_MIRROR="http://127.0.0.1:9")
        assert "training-parallel-commoncrawl.tgz is cut short or damaged" in result.stdout
        assert broken.exists()
        broken.unlink()
        result = prepare(world, tmp_path / "out", *arguments, "--stage", 1, check=False)
        assert "there is no training-parallel-commoncrawl.tgz" in result.stdout
        broken.write_bytes(whole)
        prepare(world, tmp_path / "out", *arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tokenization", "words"], "--tokenization words: choose"),
            (["--news-commentary", "v10"], "choose v9 or v11"),
            (["--vocabulary", "many"], "many is not a whole number"),
            (["--stage", "6"], "the stages are 1 to 5"),
            (["--archives", "/nowhere"], "/nowhere: no such folder"),
            (["--corpus", "/nowhere/text"], "neither /nowhere/text.en nor"),
            (["--corpus", "/nowhere/text", "--corpus", "/nowhere/text"], "a --corpus is given twice"),
            (["--stage", "3"], "stage 1 (download) has not been done"),
            (["--max-ratio"], "--max-ratio needs a value"),
        ],
    )
    def test_wrong_options_are_refused(self, world, tmp_path, arguments, message):
        result = prepare(world, tmp_path / "out", *arguments, check=False)
        assert result.returncode == 1
        assert message in result.stdout

    def test_too_little_disk_space_is_noticed_first(self, world, tmp_path):
        write_table(tmp_path / "huge.tsv", megabytes=10**9)
        result = prepare(world, tmp_path / "out", "--table", tmp_path / "huge.tsv", check=False)
        assert result.returncode == 1
        assert re.search(r"\d+ MB of free disk space, 1[78]\d{9} MB are needed", result.stdout)
        assert not list((tmp_path / "out").glob("archives/*"))


class FaultyHandler(http.server.SimpleHTTPRequestHandler):
    """Answers the first request for a file with 503, the second with half of it, and later ones with all of it."""

    requests: ClassVar[Counter] = Counter()

    def do_GET(self):
        self.requests[self.path] += 1
        if self.requests[self.path] == 1:
            self.send_error(503)
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.requests[self.path] == 2 else content)

    def log_message(self, *arguments):
        """Keep the tests' output clean."""


@contextlib.contextmanager
def served(folder):
    """Serve a folder over http with the faults of FaultyHandler; yield the address."""
    FaultyHandler.requests.clear()
    handler = functools.partial(FaultyHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

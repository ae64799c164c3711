"""A download is whole or nothing: one that was cut continues where it ended, one that fails leaves the older file."""

import hashlib
import http.server
import threading
from typing import ClassVar

import fetch
import pytest

CONTENT = b"a file of which the server may send a part only\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Answers a request as its path says: whole, cut, flaky, busy, missing, wrong, or resumable in parts."""

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


@pytest.fixture
def url():
    Server.requests = 0
    Server.ranges.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_that_is_there_is_not_fetched_again(url, tmp_path):
    assert fetch.fetch(f"{url}/whole", tmp_path / "sub/file", SHA256)
    assert (tmp_path / "sub/file").read_bytes() == CONTENT
    assert not fetch.fetch(f"{url}/whole", tmp_path / "sub/file", SHA256)
    assert Server.requests == 1


def test_local_files_may_have_any_name(tmp_path):
    (tmp_path / "a b#c%20d").write_bytes(CONTENT)
    assert fetch.fetch(str(tmp_path / "a b#c%20d"), tmp_path / "file", SHA256)
    with pytest.raises(OSError, match="attempts: 1"):
        fetch.fetch(str(tmp_path / "none"), tmp_path / "other", SHA256)


def test_a_transfer_that_fails_is_repeated(url, tmp_path):
    assert fetch.fetch(f"{url}/flaky", tmp_path / "file", SHA256, pause=0)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert Server.requests == 3


@pytest.mark.parametrize("checksum", [SHA256, "-"], ids=["known", "unknown"])
def test_a_transfer_that_is_cut_goes_on_where_it_ended(url, tmp_path, checksum):
    assert fetch.fetch(f"{url}/resumable", tmp_path / "file", checksum, pause=0)
    half = len(CONTENT) // 2
    assert Server.ranges == [None, f"bytes={half}-", f"bytes={half + (len(CONTENT) - half) // 2}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_later_call_goes_on_where_the_first_one_ended(url, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    with pytest.raises(OSError, match="ended after"):
        fetch.fetch(f"{url}/resumable", tmp_path / "file", SHA256)
    Server.requests = 2
    assert fetch.fetch(f"{url}/resumable", tmp_path / "file", SHA256)
    assert Server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_parts_of_two_versions_of_a_file_are_not_joined(url, tmp_path):
    assert fetch.fetch(f"{url}/resumable-changed", tmp_path / "file", "-", pause=0)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "error", "requests"),
    [("cut", OSError, 4), ("busy", OSError, 4), ("missing", OSError, 1), ("wrong", ValueError, 1)],
)
def test_a_download_that_fails_leaves_the_older_file(url, tmp_path, kind, error, requests):
    (tmp_path / "file").write_bytes(b"an older file")
    with pytest.raises(error, match=kind):
        fetch.fetch(f"{url}/{kind}", tmp_path / "file", SHA256, pause=0)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"an older file"
    assert Server.requests == requests

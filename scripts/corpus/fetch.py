#!/usr/bin/env python3
"""Download files; a file with its final name is always complete.

    fetch.py URL FILE SHA256 [URL FILE SHA256 ...]

A file that exists with the right checksum is not downloaded again.  URL is http, https or file, or the path of a file.
SHA256 is a dash if no checksum is known; then only the number of bytes is checked.  An interrupted transfer continues
where it ended, also in a later call, if the server supports that and still has the same file.  The environment variable
FETCH_PAUSE sets the seconds to wait before the second attempt (default: 2), doubled before each later one.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from b2t_common import programs
from b2t_common.errors import InputError

ATTEMPTS = 4
UNKNOWN = "-"


def checksum(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, path: Path, sha256: str, pause: float = 2.0) -> bool:
    """Download ``url`` to ``path`` unless ``path`` has the right content; return whether it was downloaded.

    Args:
        url: the source; a path if it has no ``://``.
        path: the target; it is written as ``path.part``, and renamed when it is complete and its checksum is right.
        sha256: the expected checksum, or a dash.
        pause: seconds to wait before the second attempt, doubled before each later one.

    Raises:
        ValueError: the server sent a complete file with another checksum.
        OSError: no attempt got the complete file; an earlier file at ``path`` is unchanged.
        InputError: ``path`` is a folder or a device.
    """
    # behind a link, so that the link stays
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file: it can be neither checked nor continued; give the name of a file")
    if path.exists() and sha256 in (UNKNOWN, checksum(path)):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _download(url, part)
            break
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            remote = url.startswith(("http:", "https:"))
            gone = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)
            if attempt == ATTEMPTS or gone or not remote:
                if not _version_file(part).exists():
                    part.unlink(missing_ok=True)  # without a version, a later call cannot continue it
                raise OSError(f"{url} could not be fetched ({error}), attempts: {attempt}") from error
            time.sleep(pause * 2 ** (attempt - 1))
    actual = checksum(part)
    _version_file(part).unlink(missing_ok=True)
    if sha256 not in (UNKNOWN, actual):
        part.unlink()
        raise ValueError(
            f"{url} has the checksum {actual}, not {sha256}: the file was changed or the server sent something else; "
            "nothing was kept"
        )
    part.replace(path)
    return True


def _version_file(part: Path) -> Path:
    """Return the path of the file that records to which version of the remote file a part belongs."""
    return part.with_name(f"{part.name}.version")


def _download(url: str, part: Path) -> None:
    if not url.startswith(("http:", "https:")):
        with urllib.request.urlopen(url) if "://" in url else open(url, "rb") as source, open(part, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        return
    request = urllib.request.Request(url)
    version = _version_file(part)
    if part.exists() and version.exists():
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        request.add_header("If-Range", version.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is at least as long as the file, so it may belong to an older one: start again
            part.unlink(missing_ok=True)
        raise
    with response:
        continues = response.status == 206
        identity = response.headers.get("ETag") or response.headers.get("Last-Modified")
        # a weak tag does not guarantee the same bytes
        if identity and not identity.startswith("W/"):
            version.write_text(identity)
        else:
            version.unlink(missing_ok=True)
        received = 0
        with open(part, "ab" if continues else "wb") as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                received += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        expected = response.headers.get("Content-Length")
    if expected is not None and received != int(expected):
        raise OSError(f"the transfer ended after {received} of {expected} bytes")


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or len(arguments) % 3:
        sys.exit(__doc__)
    for url, name, sha256 in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        downloaded = fetch(url, Path(name), sha256, float(os.environ.get("FETCH_PAUSE", "2")))
        checked = "no checksum known" if sha256 == UNKNOWN else "checksum right"
        print(f"{name}: {'downloaded' if downloaded else 'already there'}, {checked}")


if __name__ == "__main__":
    sys.exit(programs.run("fetch.py", main, ValueError))

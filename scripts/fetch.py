#!/usr/bin/env python3
"""Download files with known checksums; a file under its final name is always whole.

    fetch.py URL FILE SHA256 [URL FILE SHA256 ...]

A file that is there with the right checksum is left alone.  URL is http, https or file, or the path of a file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ATTEMPTS = 4


def checksum(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, path: Path, sha256: str, pause: float = 2.0) -> bool:
    """Download ``url`` to ``path`` unless it is there already; return whether it was downloaded.

    Args:
        url: where from; a path if it has no ``://``.
        path: where to; written under a temporary name and renamed when its checksum is right.
        sha256: the expected checksum.
        pause: seconds to wait before the second attempt, doubled before each later one.

    Raises:
        ValueError: the server sent a whole file with another checksum.
        OSError: no attempt got the whole file; what was there before is left as it was.
    """
    if path.exists() and checksum(path) == sha256:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _download(url, unfinished)
                break
            except (urllib.error.URLError, OSError) as error:
                remote = url.startswith(("http:", "https:"))
                gone = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)
                if attempt == ATTEMPTS or gone or not remote:
                    raise OSError(f"{url} could not be fetched ({error}), attempts: {attempt}") from error
                time.sleep(pause * 2 ** (attempt - 1))
        found = checksum(unfinished)
        if found != sha256:
            raise ValueError(
                f"{url} has the checksum {found}, not {sha256}: the file was changed or something else was sent; "
                "nothing was kept"
            )
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _download(url: str, path: Path) -> None:
    if "://" not in url:
        shutil.copyfile(url, path)
        return
    with urllib.request.urlopen(url, timeout=60) as response, open(path, "wb") as file:
        expected = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(1 << 20):
            file.write(chunk)
            received += len(chunk)
    if expected is not None and received != int(expected):
        raise OSError(f"the transfer ended after {received} of {expected} bytes")


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or len(arguments) % 3:
        sys.exit(__doc__)
    for url, name, sha256 in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        try:
            downloaded = fetch(url, Path(name), sha256)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
        print(f"{name}: {'downloaded' if downloaded else 'there already'}, checksum right")


if __name__ == "__main__":
    main()

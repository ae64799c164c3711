#!/usr/bin/env python3
"""Write a manifest of prepared data: size, number of lines and checksum of each file, settings, versions.

    manifest.py OUTPUT SETTINGS_FILE FILE_OR_FOLDER...

The same data, settings and versions give the same manifest, independent of place and time.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib import metadata
from pathlib import Path

import streams

from b2t_common import programs
from b2t_common.errors import InputError

# logs hold times and names of folders, which differ from run to run
_EXCLUDED = (".log",)
_TEXT = (".en", ".de", ".txt", ".json", ".vocab", ".codes", ".sha256")


def describe(path: Path) -> dict[str, int | str]:
    """Return a file's size in bytes and SHA-256 and, for text, its number of lines."""
    digest, size, lines = hashlib.sha256(), 0, 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
    described: dict[str, int | str] = {"bytes": size, "sha256": digest.hexdigest()}
    return {**described, "lines": lines} if path.suffix in _TEXT else described


def manifest(settings: str, paths: list[Path]) -> dict:
    """Return the manifest of the files, and of all files in the folders, whose names begin with the folder's.

    Raises:
        InputError: one of them does not exist.
    """
    files: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files |= {str(p.relative_to(path.parent)): p for p in inside if p.is_file() and p.suffix not in _EXCLUDED}
    versions = {name: metadata.version(name) for name in ("b2t_fairseq", "fairseq-fixed", "sacrebleu", "sentencepiece")}
    described = streams.parallel_map(describe, files.values())
    return {"settings": settings.splitlines(), "versions": versions, "files": dict(zip(files, described, strict=True))}


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    output, settings, *paths = map(Path, sys.argv[1:])
    content = manifest(settings.read_text(encoding="utf-8"), paths)
    with streams.whole_files(output) as (file,):
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
    total = sum(entry["bytes"] for entry in content["files"].values())
    print(f"{output}: {len(content['files'])} files, {total / 1e6:,.0f} MB")


if __name__ == "__main__":
    sys.exit(programs.run("manifest.py", main))

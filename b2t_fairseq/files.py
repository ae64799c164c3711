"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all under temporary names first, renamed when all are on the disk.

    Raises:
        OSError: the disk is full; what was there is left as it was.
    """
    unfinished = {path: path.with_name(f"{path.name}.tmp{os.getpid()}") for path in contents}
    try:
        for path, temporary in unfinished.items():
            with open(temporary, "wb") as file:
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in unfinished.items():
            temporary.replace(path)
    finally:
        for temporary in unfinished.values():
            temporary.unlink(missing_ok=True)

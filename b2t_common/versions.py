"""Versions of installed packages, read from their metadata: importing torch or fairseq takes seconds."""

from __future__ import annotations

from importlib import metadata

# a package may be installed under another name than the one that is imported
_DISTRIBUTIONS = {"fairseq": ("fairseq-fixed", "fairseq")}


def installed_version(package: str) -> str:
    """Return the version of an installed package, ``"unknown"`` if it has no metadata or is not installed."""
    for name in _DISTRIBUTIONS.get(package, (package,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"

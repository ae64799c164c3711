#!/usr/bin/env python3
"""Check that this Python has the project, installed from this very checkout, and the requirements of some extras.

    is_installed.py PROJECT EXTRA...

The requirements are those of PROJECT/pyproject.toml, with their versions.  Exit status 1 and a line for each package
that is missing or too old tell that something has to be installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

# pip itself brings both, and nothing else is sure to be there before the first installation
try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib
from pip._vendor.packaging.requirements import Requirement


def requirements(settings: dict, extras: list[str]) -> Iterator[Requirement]:
    """Yield what the project needs, with what its extras need; an extra may name other extras of the project.

    Args:
        settings: the table ``project`` of pyproject.toml.
        extras: names from its table ``optional-dependencies``.

    Raises:
        KeyError: the project has no such extra.
    """
    for text in [*settings["dependencies"], *(t for extra in extras for t in settings["optional-dependencies"][extra])]:
        requirement = Requirement(text)
        if requirement.name == settings["name"]:
            yield from requirements(settings, sorted(requirement.extras))
        elif requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def fault(requirement: Requirement) -> str | None:
    """Return what is wrong with an installed package, ``None`` if nothing is."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement} is needed, but version {version} is installed"


def installed_from(name: str) -> Path | None:
    """Return the folder from which pip installed a project, ``None`` if it did not install it from a folder."""
    try:
        origin = metadata.distribution(name).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    return Path(url2pathname(urlparse(json.loads(origin)["url"]).path)) if origin else None


def main() -> None:
    project, extras = Path(sys.argv[1]), sys.argv[2:]
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    faults = [text for text in map(fault, requirements(settings, extras)) if text]
    origin = installed_from(settings["name"])
    if origin is None or not origin.exists() or not origin.samefile(project):
        faults.append(f"{settings['name']} is not installed from {project}")
    if faults:
        sys.exit("\n".join(dict.fromkeys(faults)))


if __name__ == "__main__":
    main()

"""The direction of imports: what may know of what."""

import ast
from collections.abc import Iterator
from pathlib import Path

from helpers import ROOT


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of every module, or of every name in a module, that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_no_test_imports_another_test():
    """What test files share is in tests/lib."""
    modules = {path.stem for path in ROOT.glob("tests/**/test_*.py")}
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}: move what both tests need into tests/lib"
        for path in sorted(ROOT.glob("tests/**/*.py"))
        for line, name in imports_of(path)
        if modules & set(name.split("."))
    ]
    assert not broken, "\n".join(broken)

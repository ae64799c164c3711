"""Which part of the project may import and name which: the direction of imports, and the registries' names."""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import ROOT
from longest import LONGEST

import b2t_fairseq
from b2t_fairseq.initialization import INITIALIZATIONS
from b2t_fairseq.normalization import NORMS
from b2t_fairseq.positions import POSITIONS
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.sharing import STRATEGIES

PLUGIN = ROOT / "b2t_fairseq"
AROUND_THE_PLUGIN = {"b2t_cli", "claims", "benchmarks", "scripts", "docs", "tests"}
# The programs in scripts/corpus import each other by these names.
AROUND_THE_PLUGIN |= {path.stem for path in ROOT.glob("scripts/corpus/*.py")}
METHODS = [
    "residual",
    "sharing",
    "tying",
    "initialization",
    "word_dropout",
    "normalization",
    "positions",
]


def files_of(*patterns: str) -> list[Path]:
    """Return the Python files that match patterns relative to the project's folder."""
    files = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    assert files, f"there is no file {' or '.join(patterns)}"
    return files


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each module, or of each name in a module, that a file imports."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def is_in(name: str, modules: set[str]) -> bool:
    """Return whether a full name is one of the modules or lies in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def is_foreign_or_in(name: str, modules: set[str]) -> bool:
    """Return whether a full name is of another project, or lies in one of these modules of ours."""
    return is_in(name, modules) or not is_in(name, {"b2t_fairseq", "b2t_common", *AROUND_THE_PLUGIN})


def assert_imports(files: list[Path], allowed: Callable[[str], bool], rule: str) -> None:
    """Fail with a sentence for each import that is not allowed."""
    broken = [
        f"{place(path, line)} imports {name}, but {rule}"
        for path in files
        for line, name in imports_of(path)
        if not allowed(name)
    ]
    assert not broken, "\n" + "\n".join(broken)


class TestImports:
    def test_no_test_imports_another_test(self):
        tests = {path.stem for path in ROOT.glob("tests/**/test_*.py")}
        rule = "no test imports another test: what both need belongs into tests/lib"
        assert_imports(files_of("tests/**/*.py"), lambda name: not tests & set(name.split(".")), rule)

    def test_the_plugin_does_not_know_what_is_around_it(self):
        rule = "the plugin b2t_fairseq imports nothing from the commands, the claims, the benchmarks and the scripts"
        assert_imports(files_of("b2t_fairseq/**/*.py"), lambda name: not is_in(name, AROUND_THE_PLUGIN), rule)

    def test_the_common_package_needs_the_standard_library_only(self):
        rule = "b2t_common imports only the standard library and itself"
        allowed = {*sys.stdlib_module_names, "b2t_common"}
        assert_imports(files_of("b2t_common/**/*.py"), lambda name: is_in(name, allowed), rule)

    def test_kernels_know_no_layer(self):
        """They know no stack, model or decoding either; they import of ours only kernels and what is common."""
        rule = "kernels import of ours only b2t_fairseq.kernels and b2t_common: no layer, stack, model or decoding"
        allowed = {"b2t_fairseq.kernels", "b2t_common"}
        assert_imports(files_of("b2t_fairseq/kernels/*.py"), lambda name: is_foreign_or_in(name, allowed), rule)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_method_knows_no_other_part(self, method):
        """Each of the papers' ideas can be read, and changed, alone."""
        if not (files := [*PLUGIN.glob(f"{method}.py"), *PLUGIN.glob(f"{method}/*.py")]):
            pytest.skip(f"there is no {method} yet")
        rule = f"{method} imports of ours only b2t_common.errors and itself"
        allowed = {f"b2t_fairseq.{method}", "b2t_common.errors"}
        assert_imports(files, lambda name: is_foreign_or_in(name, allowed), rule)

    def test_sharing_needs_no_torch(self):
        """Index lists are pure functions, which pages and tools compute without PyTorch."""
        path = PLUGIN / "sharing.py"
        at_run_time = {node.lineno for node in parsed(path).body if isinstance(node, ast.Import | ast.ImportFrom)}
        needed = [name for line, name in imports_of(path) if line in at_run_time and is_in(name, {"torch", "fairseq"})]
        assert not needed, f"b2t_fairseq/sharing.py imports {needed} at run time, where it needs types only"


def docstrings(tree: ast.Module) -> set[ast.AST]:
    with_docstring = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, with_docstring)]
    return {statement.value for statement in first if isinstance(statement, ast.Expr)}


def nodes_within(tree: ast.Module, *kinds: type[ast.AST]) -> set[ast.AST]:
    return {node for outer in ast.walk(tree) if isinstance(outer, kinds) for node in ast.walk(outer)}


def spelled_names(path: Path, names: set[str], compared_only: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name wherever a string is a registered name or gives one as the value of its flag.

    Words that have other meanings too count only where something is compared with them.
    """
    tree = parsed(path)
    compared = nodes_within(tree, ast.Compare, ast.MatchValue)
    for node in set(ast.walk(tree)) - docstrings(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in names and (node.value not in compared_only or node in compared):
                yield node.lineno, repr(node.value)
            flags = "--residual|--norm|--positions|--layer-sharing|--init"
            for flag, value in re.findall(rf"({flags})[ =](\w+)", node.value):
                if value in names:
                    yield node.lineno, f"{flag} {value}"


def objects_named(path: Path, objects: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name wherever a file imports a registered class or function, or reaches one in its module."""
    yield from ((line, name) for line, name in imports_of(path) if name in objects)
    last_parts = {tuple(name.split(".")[-2:]) for name in objects}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and tuple(ast.unparse(node).split(".")[-2:]) in last_parts:
            yield node.lineno, ast.unparse(node)


class TestRegistries:
    def test_methods_are_named_in_their_registry_only(self):
        """Other code reads the registry, in whatever way it could spell a name: a string, a class, a function.

        b2t_cli/conversion may name them, because it translates the flags of the papers' releases, and so may
        admin_profile.py, which is a part of one scheme.
        """
        owners = {
            *PLUGIN.glob("residual/*.py"),
            *PLUGIN.glob("normalization/*.py"),
            PLUGIN / "sharing.py",
            *ROOT.glob("b2t_cli/conversion/**/*.py"),
        }
        owners |= {PLUGIN / name for name in ("admin_profile.py", "initialization.py", "positions.py")}
        names = {*SCHEMES, *NORMS, *POSITIONS, *STRATEGIES, *INITIALIZATIONS}
        classes = [*SCHEMES.values(), *NORMS.values(), *POSITIONS.values()]
        objects = {f"{entry.__module__}.{entry.__name__}" for entry in classes}
        objects |= {f"b2t_fairseq.residual.{scheme.__name__}" for scheme in SCHEMES.values()}
        objects |= {f"b2t_fairseq.sharing.{strategy}" for strategy in STRATEGIES}
        objects |= {f"b2t_fairseq.initialization.{one.__name__}" for one in INITIALIZATIONS.values()}
        broken = []
        for path in files_of("b2t_fairseq/**/*.py", "b2t_cli/**/*.py"):
            if path not in owners:
                # "none" is a word of oneDNN and of matplotlib, and b2t is the name of the command
                ambiguous = {"none", "fairseq", "small"} | (set() if path.is_relative_to(PLUGIN) else {"b2t"})
                found = [*spelled_names(path, names, ambiguous), *objects_named(path, objects)]
                broken += [
                    f"{place(path, line)} names {name}: read the registry instead" for line, name in sorted(found)
                ]
        assert not broken, "\n" + "\n".join(broken)


class TestTests:
    def test_every_test_says_what_it_promises(self):
        """Its name is a sentence of four words or more, or it has a docstring."""
        broken = [
            f"{place(path, node.lineno)}: give {node.name} a name that says what it promises, or a docstring"
            for path in files_of("tests/**/test_*.py")
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.FunctionDef)
            and node.name.startswith("test_")
            and len(node.name.split("_")) < 5
            and not ast.get_docstring(node)
        ]
        assert not broken, "\n" + "\n".join(broken)

    def test_the_longest_files_exist(self):
        """tests/lib/longest.py would have no effect for a file that was renamed."""
        missing = set(LONGEST) - {path.stem for path in files_of("tests/**/test_*.py")}
        assert not missing, f"tests/lib/longest.py names files that are not there: {missing}"


def test_this_checkout_is_tested():
    """An installed b2t_fairseq elsewhere does not hide the one beside the tests."""
    assert Path(b2t_fairseq.__file__) == PLUGIN / "__init__.py"

"""The source of a residual scheme as a file that needs torch only.

The equations of the schemes exist once, in ``b2t_fairseq/residual``.  What a model's folder has is cut out of these
files when the model is converted, so a new scheme can be converted as soon as it is in the registry.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import sys
from types import ModuleType

from b2t_common import __version__
from b2t_common.errors import InputError
from b2t_fairseq.residual import ResidualScheme

# members of schemes for flags, initialization and growing, which a trained model does not need
_LEFT_OUT = frozenset(
    {"check", "flags", "gain", "made_anew", "set_num_updates", "unshared_parameters", "when_to_use", "xavier"}
)
# the position of a layer is made by the code of the model
_TYPES = {"LayerPosition": "LayerPosition = Any"}
_OWN = "b2t_fairseq.residual"


def scheme_source(scheme: type[ResidualScheme]) -> str:
    """Return the code of a scheme, under the name ``SCHEME``, with all that it uses.

    Raises:
        InputError: it uses something of fairseq, or of another part of this plugin.
    """
    cut = _Cut()
    cut.add(sys.modules[scheme.__module__], scheme.__name__)
    head = (
        f'"""The residual scheme {scheme.title}: {scheme.equation}.\n\n'
        f"Cut out of b2t_fairseq {__version__}.  ``f`` is a sub-layer, ``layer_input`` the input of the whole layer.\n"
        '"""\n\nfrom __future__ import annotations'
    )
    parts = "\n\n\n".join([*cut.parts.values(), f"SCHEME = {scheme.__name__}"])
    return f"{head}\n\n{cut.import_lines()}\n\n{parts}\n"


class _Cut:
    """Definitions that have been cut out, each after those that it uses.

    Attributes:
        parts: code by the name that it defines.
        modules: those that are imported whole.
        imports: names that are imported from others, by module.
    """

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.modules: set[str] = set()
        self.imports: dict[str, set[str]] = {}

    def import_lines(self) -> str:
        """Return the imports, one module a line."""
        whole = [f"import {module}" for module in sorted(self.modules)]
        names = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self.imports.items())]
        return "\n".join(whole + names)

    def add(self, module: ModuleType, name: str) -> None:
        """Add what a name means in a module, unless it is a name of Python's own or of a function."""
        if name in self.parts or hasattr(builtins, name):
            return
        if name in _TYPES:
            self.imports.setdefault("typing", set()).add("Any")
            self.parts[name] = _TYPES[name]
            return
        source, tree = _parsed(module)
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(module, node, name)
            elif name in _defined(node):
                text = _without_left_out(source.splitlines(), node)
                used = [inner.id for inner in ast.walk(ast.parse(text)) if isinstance(inner, ast.Name)]
                for other in used:
                    if other != name:
                        self.add(module, other)
                self.parts[name] = text

    def _add_import(self, module: ModuleType, node: ast.Import | ast.ImportFrom, name: str) -> None:
        for alias in node.names:
            if (alias.asname or alias.name.split(".")[0]) != name:
                continue
            if isinstance(node, ast.Import):
                self.modules.add(ast.unparse(alias))
                return
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            if origin.startswith(_OWN):
                self.add(importlib.import_module(origin), name)
            elif origin.startswith(("b2t_", "fairseq")):
                raise InputError(
                    f"{module.__name__} uses {origin}.{name}, which is not in the folder of a model: a residual scheme "
                    "that is to be converted may use torch and the standard library only"
                )
            else:
                self.imports.setdefault(origin, set()).add(ast.unparse(alias))


@functools.cache
def _parsed(module: ModuleType) -> tuple[str, ast.Module]:
    source = inspect.getsource(module)
    return source, ast.parse(source)


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign):
        return {node.target.id} if isinstance(node.target, ast.Name) else set()
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _without_left_out(lines: list[str], node: ast.stmt) -> str:
    """Return the source of a statement; of a class without the members that a trained model does not need."""
    dropped: set[int] = set()
    previous_is_dropped = False
    for member in node.body if isinstance(node, ast.ClassDef) else ():
        # a text after an assignment documents it
        is_text = isinstance(member, ast.Expr) and isinstance(member.value, ast.Constant)
        previous_is_dropped = bool(_defined(member) & _LEFT_OUT) or (is_text and previous_is_dropped)
        if previous_is_dropped:
            dropped |= _lines_of(member)
            if isinstance(member, ast.FunctionDef):
                dropped.add(max(dropped) + 1)  # the blank line after it
    kept = [lines[number - 1] for number in sorted(_lines_of(node)) if number not in dropped]
    return "\n".join(kept).rstrip()


def _lines_of(node: ast.stmt) -> set[int]:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return set(range(first, (node.end_lineno or first) + 1))

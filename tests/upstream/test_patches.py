"""The table of patches: each patch replaces what it was written for, once, and nothing else is replaced."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

from b2t_fairseq.upstream import patches
from b2t_fairseq.upstream.patches import PATCHES
from b2t_fairseq.upstream.patching import AT_IMPORT, IN_TRAINING, ORIGINALS, TIMES, Patch, Setting, changed_signature

REPLACED = [patch for patch in PATCHES if isinstance(patch, Patch)]


@pytest.fixture(scope="module", autouse=True)
def applied():
    patches.apply(AT_IMPORT)
    patches.apply(IN_TRAINING)


@pytest.mark.parametrize("patch", REPLACED, ids=lambda patch: patch.target)
def test_the_original_has_the_parameters_that_the_patch_was_written_for(patch):
    sentence = changed_signature(patch)
    assert sentence is None, sentence


def test_a_changed_signature_is_told_in_a_sentence(monkeypatch):
    patch = next(patch for patch in REPLACED if patch.attribute == "train_step")
    monkeypatch.setitem(ORIGINALS, patch.target, lambda self, samples, raise_oom, another: None)
    assert changed_signature(patch) == (
        "fairseq.trainer.Trainer.train_step now has the parameters (self samples raise_oom another), but "
        "with_first_step was written for (self samples raise_oom): read the new code, change the replacement, then the "
        "row of the table"
    )


@pytest.mark.parametrize("patch", REPLACED, ids=lambda patch: patch.target)
def test_a_patch_is_in_force_and_applied_once(patch):
    owner, current = patch.resolve(), ORIGINALS[patch.target]
    replacement = getattr(owner, patch.attribute)
    assert replacement is not current
    patches.apply(patch.when)
    assert getattr(owner, patch.attribute) is replacement
    assert ORIGINALS[patch.target] is current


def test_a_patched_static_method_stays_static():
    (copy,) = (patch for patch in REPLACED if patch.attribute == "copy")
    assert isinstance(inspect.getattr_static(copy.resolve(), "copy"), staticmethod)


def test_every_row_has_a_reason_in_a_sentence_and_a_time():
    for patch in PATCHES:
        assert patch.why.endswith("."), patch.target
        assert patch.when in TIMES, patch.target
    assert len({patch.target for patch in PATCHES}) == len(PATCHES)


def test_loading_the_plugin_applies_the_first_kind_only():
    code = (
        "import b2t_fairseq; from b2t_fairseq.upstream.patches import *; from b2t_fairseq.upstream.patching import *; "
        "assert {patch.target for patch in PATCHES if isinstance(patch, Patch) and patch.when == AT_IMPORT} "
        "== set(ORIGINALS), set(ORIGINALS)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


UPSTREAM = {"torch", "fairseq", "fairseq_cli", "omegaconf", "hydra"}
NO_CHANGES = {
    # for some statements only
    "b2t_fairseq.kernels.quantized._engine",
    # the best validation of a run, which fairseq keeps as an attribute of its function
    "b2t_fairseq.upstream.run_state.forget_other_runs",
    "b2t_fairseq.upstream.run_state.restore",
}
"""What assigns something, and yet leaves fairseq and PyTorch as they are."""


def changes_of_upstream(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the function, by its full name, and the target of each assignment to something in fairseq or PyTorch."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {(alias.asname or alias.name).split(".")[0] for alias in node.names if of_upstream(alias.name)}
        elif isinstance(node, ast.ImportFrom) and not node.level and of_upstream(node.module):
            imported |= {alias.asname or alias.name for alias in node.names}
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    # the outermost function is the last one to be written
    owners = {id(node): function.name for function in reversed(functions) for node in ast.walk(function)}
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "vars", "delattr") and node.args:
            targets = [ast.Attribute(node.args[0], "")]
        for target in targets:
            if isinstance(target, ast.Attribute | ast.Subscript) and root_of(target) in imported:
                yield f"{module}.{owners.get(id(node), '')}", ast.unparse(target)


def of_upstream(module: str) -> bool:
    return module.split(".")[0] in UPSTREAM


def root_of(node: ast.expr) -> str:
    """Return the name at the left end of ``a.b[c].d``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_else_is_changed():
    """Outside the table no code of the plugin and of the commands assigns to what it has imported from upstream."""
    rows = {f"{row.apply.__module__}.{row.apply.__name__}" for row in PATCHES if isinstance(row, Setting)}
    files = [path for folder in ("b2t_fairseq", "b2t_cli", "b2t_common") for path in (ROOT / folder).glob("**/*.py")]
    found = {change for path in files for change in changes_of_upstream(path)}
    assert {function for function, _ in found} >= NO_CHANGES, NO_CHANGES
    beside = sorted((function, target) for function, target in found if function not in rows | NO_CHANGES)
    assert not beside, f"make these changes rows of b2t_fairseq/upstream/patches.py: {beside}"

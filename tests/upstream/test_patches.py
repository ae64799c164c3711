"""The table of patches: each patch replaces what it was written for, once, and nothing else is replaced."""

import inspect
import subprocess
import sys

import pytest
from helpers import ROOT

from b2t_fairseq.upstream import patches
from b2t_fairseq.upstream.patches import PATCHES
from b2t_fairseq.upstream.patching import AT_IMPORT, IN_TRAINING, ORIGINALS, Patch, changed_signature

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
        assert patch.when in (AT_IMPORT, IN_TRAINING), patch.target
    assert len({patch.target for patch in PATCHES}) == len(PATCHES)


def test_loading_the_plugin_applies_the_first_kind_only():
    code = (
        "import b2t_fairseq; from b2t_fairseq.upstream.patches import *; from b2t_fairseq.upstream.patching import *; "
        "assert {patch.target for patch in PATCHES if isinstance(patch, Patch) and patch.when == AT_IMPORT} "
        "== set(ORIGINALS), set(ORIGINALS)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

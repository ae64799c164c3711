"""Waiting threads sleep early by default; what a user has chosen stays."""

import os
import re
import subprocess
import sys

import pytest
from helpers import ROOT

from b2t_common import threads

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def without_choice(**variables):
    """Return this environment without a choice of the user, but with some variables."""
    return {name: value for name, value in os.environ.items() if name not in CHOICES} | variables


def test_the_default_is_set_before_pytorch_is_imported():
    code = (
        "import os, sys; import b2t_common.threads as threads; "
        "threads.let_waiting_threads_sleep = lambda: print('torch' in sys.modules); "
        "from b2t_cli.fairseq_commands import train; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split()[:2] == ["False", "True"]


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_of_the_user_stays(name, monkeypatch):
    for other in CHOICES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "active")
    threads.let_waiting_threads_sleep()
    assert {other: os.environ[other] for other in CHOICES if other in os.environ} == {name: "active"}


def test_without_a_choice_the_default_is_set(monkeypatch):
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    threads.let_waiting_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, threads.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "")],
)
def test_the_drivers_have_the_same_default(variables, expected):
    """scripts/lib.sh, which all of them read first, spells it out."""
    command = f". '{ROOT}/scripts/lib.sh'; echo \"[${{GOMP_SPINCOUNT:-}}]\""
    result = subprocess.run(
        ["bash", "-c", command], env=without_choice(**variables), capture_output=True, text=True, check=True
    )
    assert re.findall(r"\[(.*)\]", result.stdout) == [expected]

"""benchmarks/gpu.sh: which parts it runs and what it keeps; each part itself, with very small models."""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys

import pytest
import torch
from commands import BIN, environment, stand_in
from helpers import ROOT

from b2t_fairseq.kernels.compilation import CompiledInTraining
from benchmarks import gpu_checks, gpu_summary

TINY = ("--device", "cpu", "--tiny")
WHOLE_RUNS = ("resume", "parallel")


def gpu_script(folder, *arguments, python, **variables):
    """Run the script with a program in place of Python."""
    path = stand_in(folder / "bin", "python3", python)
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), *map(str, arguments), "--out", str(folder / "out")]
    env = environment(PATH=path, **variables)
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The benchmark and its arguments of each part at its tiny size, as the script calls them."""
    folder = tmp_path_factory.mktemp("gpu")
    # every benchmark succeeds at once and leaves a result
    python = 'case "$1" in -m) echo "${@:2}" >>"$CALLS"; [ "$2" = benchmarks.gpu_summary ] || { out="${@: -1}"'
    python += '; echo "{}" >"$out.json"; echo "a table of $2" >"$out.md"; } ;; esac'
    result = gpu_script(folder, *TINY, python=python, CALLS=str(folder / "calls"))
    assert result.returncode == 0, result.stderr
    calls = [shlex.split(line) for line in (folder / "calls").read_text().splitlines()]
    return {call[-1].rsplit("/", 1)[1]: call for call in calls if "--output" in call}


def run_part(monkeypatch, folder, command, status=0):
    """Run a part in this process; return its result."""
    module, *arguments = command
    arguments[-1] = str(folder / "result")
    module = importlib.import_module(module)
    monkeypatch.setattr(
        sys, "argv", [module.__name__, *arguments, *(["--threads", "1"] if "speed" in command[0] else [])]
    )
    if status:
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == status
    else:
        module.main()
    assert (folder / "result.md").read_text().startswith("| ")
    return json.loads((folder / "result.json").read_text())


class TestScript:
    def test_every_part_has_a_place_in_the_summary(self, commands):
        assert list(commands) == list(gpu_summary.PARTS)

    def test_a_part_that_fails_does_not_stop_the_others(self, tmp_path):
        """Its reason stands in the summary; the same command runs it again, and only it."""
        python = f"""
            [ "$1" = -m ] || exit 0
            [ "$2" != benchmarks.gpu_summary ] || exec "{BIN}/python" "$@"
            echo "$3" >>"$CALLS"
            [ "$3" != "$FAILS" ] || {{ echo "no memory is left"; exit 3; }}
            out="${{@: -1}}"
            echo "{{}}" >"$out.json"
            echo "a table" >"$out.md"
        """
        arguments = (*TINY, "--only", "parity", "--only", "resume", "--only", "compile")
        result = gpu_script(tmp_path, *arguments, python=python, CALLS=str(tmp_path / "calls"), FAILS="compile")
        assert result.returncode == 1
        assert "failed: compile" in result.stderr
        summary = (tmp_path / "out/summary.md").read_text()
        assert "exit status 3\nno memory is left" in summary
        assert summary.count("a table") == 2
        assert "Not run yet: `bash benchmarks/gpu.sh --only decoding`" in summary
        assert (tmp_path / "calls").read_text().split() == ["parity", "compile", "resume"]
        result = gpu_script(tmp_path, *TINY, python=python, CALLS=str(tmp_path / "again"), FAILS="")
        assert "parity: done before" in result.stdout
        again = (tmp_path / "again").read_text().split()
        assert "compile" in again
        assert not {"parity", "resume"} & set(again)
        assert "no memory is left" not in (tmp_path / "out/summary.md").read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--only", "speed"], "--only speed: choose one of parity compile"),
            (["--tinny"], "unknown option --tinny"),
            (["--device", "tpu"], "--device tpu: choose cuda or cpu"),
        ],
    )
    def test_wrong_arguments_are_refused(self, tmp_path, arguments, message):
        result = gpu_script(tmp_path, *arguments, python="exit 1")
        assert result.returncode == 1
        assert message in result.stderr

    def test_a_machine_without_fairseq_is_told_what_to_install(self, tmp_path):
        result = gpu_script(tmp_path, python="exit 1")
        assert "has no fairseq; run bash scripts/setup.sh" in result.stderr


@pytest.fixture
def no_code_is_generated(monkeypatch):
    """Compile graphs without generating code, which takes minutes."""
    monkeypatch.setattr(CompiledInTraining, "is_unavailable", False)
    monkeypatch.setattr(CompiledInTraining, "failure", "")
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **flags: compile_with(self, backend="aot_eager", **flags)
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield monkeypatch
    torch._dynamo.reset()


class TestParts:
    @pytest.mark.parametrize(
        "part", ["parity", "memory", *(pytest.param(n, marks=pytest.mark.slow) for n in WHOLE_RUNS)]
    )
    def test_checks_pass_on_a_cpu(self, monkeypatch, tmp_path, commands, part):
        checks = run_part(monkeypatch, tmp_path, commands[part])["checks"]
        assert {check["passed"] for check in checks} == {True}
        assert all(check["measured"] <= check["limit"] for check in checks)

    def test_a_wrong_kernel_fails_and_says_so(self, monkeypatch, tmp_path, commands):
        """A float32 product that is rounded as TF32 is wrong by more than the limit."""
        right = gpu_checks.loss_of
        monkeypatch.setattr(gpu_checks, "variants", lambda layers: {"b2t": ("b2t_transformer", {"residual": "b2t"})})
        monkeypatch.setattr(gpu_checks, "loss_of", lambda model, batch, fused: right(rounded(model), batch, fused))
        checks = run_part(monkeypatch, tmp_path, commands["parity"], status=1)["checks"]
        assert [check["passed"] for check in checks][-1] is False
        assert "| **failed** |" in (tmp_path / "result.md").read_text()

    @pytest.mark.slow
    def test_compiled_layers_give_the_same_numbers(self, no_code_is_generated, tmp_path, commands):
        *checks, graphs = run_part(no_code_is_generated, tmp_path, commands["compile"])["checks"]
        assert [check["passed"] for check in checks] == [True] * 3
        assert graphs["passed"] is True
        assert graphs["measured"] <= 2

    def test_a_failed_compiler_is_not_hidden(self, no_code_is_generated, tmp_path, commands):
        def fail(self, **flags):
            self._compiled_call_impl = broken

        def broken(*args, **kwargs):
            raise torch._dynamo.exc.TorchDynamoException("no C compiler\nand more")

        no_code_is_generated.setattr(torch.nn.Module, "compile", fail)
        checks = run_part(no_code_is_generated, tmp_path, commands["compile"], status=1)["checks"]
        assert (checks[-1]["passed"], checks[-1]["reason"]) == (False, "no C compiler")

    @pytest.mark.slow
    @pytest.mark.parametrize("part", ["training_shared_18", "decoding", "ctranslate2"])
    def test_comparisons_have_a_row_for_each_program(self, monkeypatch, tmp_path, commands, part):
        if part == "ctranslate2":
            pytest.importorskip("ctranslate2")
        monkeypatch.setattr("benchmarks.training_speed.LEAST_PAIRS", 400)
        monkeypatch.setattr("benchmarks.peak_flops._REPETITIONS", 1)
        rows = run_part(monkeypatch, tmp_path, commands[part])["rows"]
        assert len(rows) >= 2
        assert all(row["speed_ratio"] > 0 for row in rows)


def rounded(model):
    """Return a float32 model whose weights have the 11 bits of TF32; a float64 model as it is."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dtype == torch.float32:
                mantissa, exponent = torch.frexp(parameter)
                parameter.copy_(torch.ldexp((mantissa * 2**11).round() / 2**11, exponent))
    return model

"""benchmarks/any_cpu.sh: which parts it runs and what it keeps, and all parts with very small models."""

import json
import subprocess
import sys

import pytest
from commands import environment, stand_in
from helpers import ROOT

from benchmarks import cpu_summary

# says which kind of processor it is; every benchmark succeeds at once and leaves a result
PYTHON = (
    'case "$1" in -c) echo avx9 ;; -m) [ "$2" = benchmarks.cpu_summary ] || '
    '{ echo "${@:2}" >>"$CALLS"; out="${@: -1}"; echo "{}" >"$out.json"; echo "a table of $2" >"$out.md"; } ;; esac'
)


def cpu_script(folder, *arguments, python=PYTHON):
    """Run the script with a program in place of Python."""
    path = stand_in(folder / "bin", "python3", python)
    command = ["bash", str(ROOT / "benchmarks/any_cpu.sh"), *arguments, "--out", str(folder / "out")]
    env = environment(PATH=path, CALLS=str(folder / "calls"))
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)


def calls(folder):
    return (folder / "calls").read_text().splitlines()


def test_each_part_runs_once_in_a_folder_for_the_processor(tmp_path):
    first = cpu_script(tmp_path)
    assert first.returncode == 0, first.stderr
    outputs = [call.split()[-1] for call in calls(tmp_path)]
    assert outputs == [str(tmp_path / "out/avx9" / part) for part in cpu_summary.PARTS]
    (tmp_path / "out/avx9/decoding.json").unlink()
    again = cpu_script(tmp_path)
    assert again.stdout.count("done before") == len(outputs) - 1
    assert calls(tmp_path)[len(outputs) :] == [calls(tmp_path)[outputs.index(str(tmp_path / "out/avx9/decoding"))]]


def test_the_limits_reach_the_benchmarks(tmp_path):
    shown = PYTHON.replace(
        'echo "${@:2}"', 'echo "$ATEN_CPU_CAPABILITY $ONEDNN_MAX_CPU_ISA $FBGEMM_ENABLE_INSTRUCTIONS"'
    )
    assert cpu_script(tmp_path, "--without-avx512", "--only", "latency", python=shown).returncode == 0
    assert calls(tmp_path) == ["avx2 AVX2 AVX2"]


def test_a_part_that_fails_is_named_and_the_others_run(tmp_path):
    failing = PYTHON.replace("-m) ", '-m) if [ "$2" = benchmarks.latency ]; then echo no memory >&2; exit 3; fi; ')
    result = cpu_script(tmp_path, python=failing)
    assert result.returncode == 1
    assert "failed: latency" in result.stderr
    assert (tmp_path / "out/avx9/latency.failed").read_text() == "exit status 3\nno memory\n"
    assert len(calls(tmp_path)) == len(cpu_summary.PARTS) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "latncy"), "--only latncy: choose one of training_6l training_18l"),
        (("--fast",), "unknown option --fast"),
    ],
)
def test_wrong_options_are_refused(arguments, message, tmp_path):
    result = cpu_script(tmp_path, *arguments)
    assert (result.returncode, message in result.stderr) == (1, True), result.stderr


def test_the_first_table_has_the_ratios_of_the_results(tmp_path):
    rows = [
        {"program": "b2t generate", "setting": "4096 tokens", "speed_ratio": 1.5},
        {"program": "b2t generate --int8", "setting": "4096 tokens", "speed_ratio": 4.25},
    ]
    compared = [
        {"program": "b2t generate", "speed_ratio": 3.0},
        {"program": "CTranslate2, float32", "speed_ratio": 2.0},
    ]
    (tmp_path / "decoding.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "ctranslate2.json").write_text(json.dumps({"rows": compared}))
    (tmp_path / "kept_memory.failed").write_text("exit status 3\n")
    (tmp_path / "latency.json").write_text(json.dumps({"rows": [{"program": "b2t", "speed_ratio": 2.125}]}))
    page = cpu_summary.summary(tmp_path)
    assert "| decoding, batches, float32 | 1.50 |" in page
    assert "| decoding, batches, `--int8` | 4.25 |" in page
    assert "| decoding, one sentence, float32 | 2.12 |" in page
    assert "| float32 against CTranslate2's | 1.50 |" in page
    assert "| training 6-6, B2T, float32 | not measured |" in page
    assert "No result:\n\n```\nexit status 3" in page


@pytest.mark.slow
def test_all_parts_with_very_small_models(tmp_path):
    """Only what is not installed may fail."""
    command = ["bash", str(ROOT / "benchmarks/any_cpu.sh"), "--tiny", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(PYTHON=sys.executable))
    (folder,) = tmp_path.iterdir()
    assert result.returncode == 0, result.stderr
    assert {path.stem for path in folder.glob("*.failed")} <= {"ctranslate2"}
    page = (folder / "summary.md").read_text()
    assert "Not run yet" not in page
    assert page.count("not measured") == (2 if (folder / "ctranslate2.failed").exists() else 0), page

"""What the shell drivers share (scripts/lib.sh): free space, locks, stages, options and help."""

import fcntl
import json
import subprocess
from pathlib import Path

import pytest
from commands import environment, script, stand_in
from helpers import ROOT

DRIVERS = sorted(path.name for path in ROOT.glob("scripts/*.sh") if path.name != "lib.sh")


def bash(code):
    """Run a line of shell that has the functions of scripts/lib.sh."""
    return subprocess.run(["bash", "-c", f". '{ROOT}/scripts/lib.sh'; {code}"], capture_output=True, text=True)


def test_disk_space_is_checked_first(tmp_path):
    result = bash(f"free_space {tmp_path} 999999999999")
    assert result.returncode == 1
    assert "999999999999 MB are needed" in result.stderr


def test_a_lock_is_held_by_one_process(tmp_path):
    lock_it = f"lock {tmp_path}/.lock 'somebody is at work'"
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = bash(lock_it)
    assert result.returncode == 1
    assert "somebody is at work" in result.stderr
    assert bash(lock_it).returncode == 0


def test_a_second_quickstart_in_one_folder_is_refused(tmp_path):
    path = stand_in(tmp_path / "bin", "bash", 'case "$1" in */setup.sh) exit;; *) exec /bin/bash "$@";; esac')
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = script("quickstart.sh", "--work", tmp_path, "--stop-stage", 1, check=False, PATH=path)
    assert result.returncode == 1
    assert f"another quickstart is at work in {tmp_path}" in result.stdout


def test_an_interrupted_stage_is_run_again(tmp_path):
    """A stage that was completed is not."""
    assert bash(f"stage {tmp_path} one false").returncode != 0
    assert bash(f"stage {tmp_path} one echo first").stdout == "first\n"
    assert bash(f"stage {tmp_path} one echo second").stdout == "one: done before, in 0 s\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--corpus", "wmt"], "--corpus wmt: choose grammar or multi30k"),
        (["--from", "/"], "only --corpus multi30k"),
        (["--corpus", "multi30k", "--from", "/nowhere"], "--from /nowhere: no such folder"),
        (["--config", "/nowhere.sh"], "--config /nowhere.sh: no such file"),
        (["--work"], "--work needs a value"),
        (["--worck", "x"], "unknown option --worck"),
    ],
)
def test_wrong_options_of_the_quickstart_are_refused(flags, message):
    result = script("quickstart.sh", *flags, check=False)
    assert result.returncode == 1
    assert message in result.stdout


def test_a_configuration_without_what_the_quickstart_needs_is_refused(tmp_path):
    path = stand_in(tmp_path / "bin", "bash", 'case "$1" in */setup.sh) exit;; *) exec /bin/bash "$@";; esac')
    config = ROOT / "configs/small/cpu.sh"
    result = script("quickstart.sh", "--work", tmp_path / "work", "--config", config, check=False, PATH=path)
    assert result.returncode == 1
    assert f"--config {config} does not set vocab_size, which the quickstart needs" in result.stdout


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_explains_itself(name, tmp_path):
    """--help prints the comment at the driver's head, which begins with its usage, and does nothing else."""
    command = ["bash", str(ROOT / "scripts" / name), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment())
    assert f"bash scripts/{name}" in result.stdout
    assert not list(Path(tmp_path).iterdir())


def test_a_stopped_quickstart_says_so(tmp_path):
    """A signal to it alone ends its training, which then has not failed; its log is complete."""
    for stage in ("corpus", "sentencepiece", "preprocess"):
        (tmp_path / "work/.done").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"work/.done/{stage}").write_text("1\n")
    (tmp_path / "work/raw").mkdir()
    for name in ("train.en", "test.en"):
        (tmp_path / "work/raw" / name).write_text("a\n")
    path = stand_in(tmp_path / "bin", "bash", 'case "$1" in */setup.sh) exit;; *) exec /bin/bash "$@";; esac')
    stand_in(
        tmp_path / "bin",
        "b2t",
        '[ "$1" = train ] || exit 0\n'
        "trap 'echo the last line; kill $!; exit 75' TERM\n"
        "sleep 30 & kill -s TERM $PPID; wait",
    )
    result = script("quickstart.sh", "--work", tmp_path / "work", check=False, PATH=path)
    assert result.returncode == 75, result.stdout
    assert "stopped by a signal; the same command continues" in result.stdout
    assert "failed" not in result.stdout
    assert (tmp_path / "work/train.log").read_text() == "the last line\n"
    assert not (tmp_path / "work/.done/train").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep.sh", "CONFIG", "--", "--seed", "3"], "--seed after --: it would be the seed of all runs; use --seeds"),
        (["sweep.sh", "CONFIG", "--", "--save-dir=here"], "every run has a folder of its own; use --out DIR"),
        (["sweep.sh", "--seeds", "1 2 1", "CONFIG"], "--seeds 1 2 1: a seed is there twice"),
        (["sweep.sh", "--grid", "--seed 1 2", "CONFIG"], "--seed in --grid: it would be the seed of all runs"),
        (["sweep.sh", "--grid", "lr 1 2", "CONFIG"], "the first word is a flag, the others are its values"),
        (["sweep.sh", "--grid", "--lr", "CONFIG"], "give the values of --lr"),
        (["sweep.sh", "--grid", "--lr 1 2 1", "CONFIG"], "1 is there twice"),
        (["sweep.sh", "--grid", "--lr 1 2/3", "CONFIG"], "2/3 cannot be in a folder's name"),
        (["sweep.sh", "--grid", "--lr 1", "--grid", "--lr 2", "CONFIG"], "two --grid are of --lr"),
        (["sweep.sh", "--grid", "--lr 1 2", "CONFIG", "--", "--lr", "3"], "--lr is in --grid and after --"),
        (["evaluate.sh", "FOLDER", "--path", "other.pt"], "--path: the averaged model translates the test sets"),
    ],
)
def test_flags_that_a_script_would_have_to_ignore_are_refused(tmp_path, arguments, message):
    names = {"CONFIG": ROOT / "configs/small/cpu.sh", "FOLDER": tmp_path}
    result = script(*(names.get(argument, argument) for argument in arguments), check=False)
    assert result.returncode == 1
    assert message in result.stdout


def run_and_data(folder):
    """Write what scripts/evaluate.sh looks at before it starts a command; return the folders of run and data."""
    run, data = folder / "run", folder / "data"
    run.mkdir()
    data.mkdir()
    (run / "settings.sh").write_text("average=(--by updates --last 3)\n")
    (run / "checkpoint_last.pt").touch()
    (data / "test_sets.txt").write_text("newstest2014\n")
    (data / "detokenize.txt").touch()
    return run, data


@pytest.mark.parametrize(
    ("flags", "chosen"), [([], "--by updates --last 3"), (["--best", "2"], "--best 2")], ids=["configuration", "best"]
)
def test_evaluation_averages_the_checkpoints_that_are_asked_for(tmp_path, flags, chosen):
    """--best takes the place of what the configuration says."""
    run, data = run_and_data(tmp_path)
    path = stand_in(tmp_path / "bin", "b2t", 'echo "b2t $*"; [ "$1" != generate ] || exit 1')
    result = script("evaluate.sh", run, "--data", data, *flags, check=False, PATH=path)
    assert f"b2t average {run} {chosen} --output {run}/evaluation/averaged.pt" in result.stdout


def test_comet_is_looked_for_before_translating(tmp_path):
    """With the model that was named; and its scores of lower-cased text would mean nothing."""
    run, data = run_and_data(tmp_path)
    path = stand_in(tmp_path / "bin", "python", 'echo "python $*"; exit 1')
    arguments = ["evaluate.sh", run, "--data", data, "--comet-model", "folder", "--comet"]
    result = script(*arguments, check=False, PATH=path)
    assert "python -m b2t_cli.scoring.comet folder\n" in result.stdout
    (data / "references").mkdir()
    about = {"language_pair": "de-en", "sets": ["iwslt14"], "lower_cased_tokens": True}
    (data / "references/about.json").write_text(json.dumps(about))
    result = script(*arguments, check=False, PATH=path)
    assert f"--comet: the translations of {data} are in lower case" in result.stdout
    assert "python -m" not in result.stdout
    assert not (run / "evaluation").exists()

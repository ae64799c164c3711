"""scripts/train.sh and scripts/sweep.sh under SLURM and torchrun, on simulated machines."""

import re
import shlex
import subprocess

import pytest
import torch
from commands import environment, script, stand_in
from fairseq.distributed import utils as distributed_utils
from helpers import ROOT
from planning import WMT, planned, settings

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "1",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}


@pytest.mark.parametrize("node", [0, 1])
def test_a_slurm_job_is_one_run_on_all_its_nodes(tmp_path, monkeypatch, node):
    """On two nodes with 8 GPUs and one task each, fairseq finds the first node and the ranks of each node."""
    variables = {**SLURM, "SLURM_NODEID": str(node), "SLURM_PROCID": str(node)}
    text, flags = planned(f"{WMT}/b2t_18l.sh", folder=tmp_path, **variables)
    assert "16 GPU(s), bf16; updates of 458752 tokens = 16 x 3584 x 8" in text
    cfg = settings(flags)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", stand_in(tmp_path / "slurm", "scontrol", 'printf "gpu07\\ngpu08\\n"'))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    distributed_utils.infer_init_method(cfg.distributed_training)
    distributed = cfg.distributed_training
    assert distributed.distributed_init_method == "tcp://gpu07:24711"
    assert (distributed.distributed_world_size, distributed.distributed_rank) == (16, 8 * node)
    assert (distributed.distributed_num_procs, distributed.distributed_no_spawn) == (8, False)


@pytest.mark.parametrize(
    ("variables", "gpus", "message"),
    [
        ({"SLURM_NTASKS": "16"}, 8, "16 tasks on 2 node(s): ask for --ntasks-per-node=1"),
        ({"SLURM_NNODES": "1", "SLURM_NTASKS": "4"}, 8, "4 tasks on 1 node(s)"),
        ({"SLURM_STEP_ID": ""}, 8, "start with srun"),
        ({}, 0, "no GPU is visible"),
    ],
)
def test_a_slurm_job_of_the_wrong_shape_is_refused(tmp_path, variables, gpus, message):
    text, _ = planned(f"{WMT}/b2t_18l.sh", folder=tmp_path, gpus=gpus, check=False, **{**SLURM, **variables})
    assert message in text


def test_an_interactive_job_is_like_no_job(tmp_path, monkeypatch):
    """On one node with 4 GPUs and 4 tasks but without srun, fairseq itself spawns the 4 processes."""
    variables = {"SLURM_JOB_ID": "4711", "SLURM_NNODES": "1", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "gpu07"}
    _, flags = planned(f"{WMT}/b2t_18l.sh", folder=tmp_path, gpus=4, **variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    distributed = settings(flags).distributed_training
    distributed_utils.infer_init_method(distributed)
    assert (distributed.distributed_world_size, distributed.distributed_no_spawn) == (4, False)
    assert distributed.distributed_init_method == "tcp://localhost:23456"


@pytest.mark.parametrize("local_rank", [{"LOCAL_RANK": "3"}, {}], ids=["torchrun", "ranks-only"])
@pytest.mark.parametrize("visible", [1, 8])
def test_torchrun_starts_one_run(tmp_path, monkeypatch, visible, local_rank):
    """Each process is one rank of one run, whether it sees all of its node's GPUs or only its own.

    Some launchers do not say which of a node's processes one is: then each node has the ranks after the last one's.
    """
    variables = {"RANK": "11", "WORLD_SIZE": "16", "MASTER_ADDR": "gpu07", "MASTER_PORT": "1234", **local_rank}
    _, flags = planned(f"{WMT}/b2t_18l.sh", folder=tmp_path, gpus=visible, **variables)
    distributed = settings(flags).distributed_training
    distributed_utils.infer_init_method(distributed)
    assert (distributed.distributed_world_size, distributed.distributed_rank) == (16, 11)
    assert (distributed.distributed_init_method, distributed.distributed_no_spawn) == ("env://", True)
    assert distributed.device_id == (0 if visible == 1 else 3)


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (75, True)])
def test_a_job_that_was_stopped_is_requeued(tmp_path, status, requeued):
    """A job that has ended, with success or with an error, is not."""
    stand_in(tmp_path / "bin", "srun", f'echo "srun $*"; exit {status}')
    path = stand_in(tmp_path / "bin", "scontrol", 'echo "scontrol $*"')
    result = subprocess.run(
        ["bash", str(ROOT / "scripts/slurm/train.sbatch"), "config.sh", "--seed", "2"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(PATH=path, SLURM_JOB_ID="4711"),
    )
    assert re.search("srun --ntasks-per-node=1 .*bash scripts/train.sh config.sh --seed 2", result.stdout)
    assert ("scontrol requeue 4711" in result.stdout) == requeued
    assert result.returncode == (0 if requeued else status)


def test_a_sweep_is_a_job_array(tmp_path):
    """It has an element for each configuration and seed, which does its own run, and then a job makes the table."""
    path = stand_in(tmp_path / "bin", "sbatch", 'printf "%q " "$@" >>"$CALLS"; echo >>"$CALLS"; echo "12;cluster"')
    configs = [ROOT / f"{WMT}/vanilla.sh", ROOT / f"{WMT}/b2t_6l.sh"]
    arguments = ("--seeds", "1 2 3", "--out", tmp_path / "out", "--slurm", *configs, "--", "--max-update", "5")
    result = script("sweep.sh", *arguments, PATH=path, CALLS=str(tmp_path / "calls"))
    assert "array 12 with 6 runs" in result.stdout
    array, table = (shlex.split(line) for line in (tmp_path / "calls").read_text().splitlines())
    assert array[array.index("--array") + 1] == "0-5"
    assert table[table.index("--dependency") + 1] == "afterany:12"
    inner = array[array.index(str(ROOT / "scripts/slurm/sweep.sbatch")) + 1 :]
    assert inner == table[table.index(str(ROOT / "scripts/slurm/sweep.sbatch")) + 1 :]
    # Element 4 is the second configuration with the second seed.
    path = stand_in(tmp_path / "bin", "srun", 'shift; exec "$@"')
    stand_in(
        tmp_path / "bin",
        "bash",
        'case "$1" in */train.sh) echo "$@";; */evaluate.sh) echo "$@";; *) exec /bin/bash "$@";; esac',
    )
    result = subprocess.run(
        ["/bin/bash", str(ROOT / "scripts/slurm/sweep.sbatch"), *inner],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(PATH=path, SLURM_JOB_ID="16", SLURM_ARRAY_JOB_ID="12", SLURM_ARRAY_TASK_ID="4"),
    )
    run = tmp_path / "out/b2t_6l/seed2"
    assert f"b2t_6l.sh --save-dir {run} --seed 2 --max-update 5" in result.stdout, result.stderr
    assert f"evaluate.sh {run}" in result.stdout


def test_a_grid_gives_each_configuration_every_combination_of_values(tmp_path):
    """Each has a folder that names them; the last job compares the runs along each flag of the grid."""
    path = stand_in(tmp_path / "bin", "bash", 'case "$1" in */train.sh) echo "$@";; *) exec /bin/bash "$@";; esac')
    stand_in(tmp_path / "bin", "b2t", 'echo "b2t $*"')
    grids = ("--grid", "--lr 1e-3 2e-3", "--grid", "--clip-norm 0.1 1", "--train-only", "--seeds", "1 2")
    out = tmp_path / "out"
    arguments = (*grids, "--out", out, "--data", tmp_path, ROOT / f"{WMT}/vanilla.sh")
    result = script("sweep.sh", "--only", 5, *arguments, PATH=path)
    run = out / "vanilla,lr=2e-3,clip_norm=0.1/seed2"
    assert f"--save-dir {run} --seed 2 --lr 2e-3 --clip-norm 0.1" in result.stdout
    assert len(list(out.glob("*/seed*"))) == 8
    result = script("sweep.sh", "--only", "table", *arguments, check=False, PATH=path)
    assert result.returncode == 1
    assert "no run has a train.log: nothing to report on" in result.stdout
    assert "b2t report" not in result.stdout
    (run / "train.log").touch()
    result = script("sweep.sh", "--only", "table", *arguments, PATH=path)
    for setting in ("lr", "clip_norm"):
        assert f"b2t report {run} --against {setting} --output {out}/against_{setting}" in result.stdout
    assert "b2t table" not in result.stdout


@pytest.mark.parametrize(("sent", "received"), [("USR1", "USR1"), ("TERM", "TERM"), ("INT", "TERM")])
def test_a_sweep_that_is_stopped_ends_its_training(tmp_path, sent, received):
    """The training gets the signal, SIGTERM for any other than SIGUSR1, and no other run begins."""
    traps = " ".join(f"trap 'echo {name} >>\"$SEEN\"; kill $!; exit 75' {name};" for name in ("USR1", "TERM"))
    training = f'echo begun >>"$SEEN"; {traps} sleep 100 & kill -s {sent} $PPID; wait'
    path = stand_in(tmp_path, "bash", f'case "$1" in */train.sh) {training};; *) exec /bin/bash "$@";; esac')
    arguments = ("--seeds", "1 2", "--out", tmp_path / "out", ROOT / f"{WMT}/vanilla.sh")
    result = script("sweep.sh", *arguments, check=False, PATH=path, SEEN=str(tmp_path / "seen"))
    assert (tmp_path / "seen").read_text().split() == ["begun", received], result.stderr
    assert result.returncode == 75

"""Training processes that ``b2t train`` spawns, one for each GPU; here they are two of a machine that has none."""

import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT
from stopped import updates
from training import MODEL_FLAGS, TRAIN_FLAGS, load

from b2t_fairseq.upstream import stopping

# Only the process that spawns believes that there are two GPUs.
PROGRAM = (
    "import sys, torch; torch.cuda.device_count, torch.cuda.is_available = lambda: 2, lambda: True; "
    "from b2t_cli import main; sys.exit(main(sys.argv[1:]))"
)
TWO = ["--distributed-world-size", "2", "--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"]


def started(data, folder, *flags):
    """Start a training by two processes."""
    argv = ["train", data, *MODEL_FLAGS, *TRAIN_FLAGS, *TWO, "--save-dir", str(folder), *flags]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )


@pytest.mark.slow
def test_a_signal_to_the_launcher_ends_all_with_a_checkpoint(data, tmp_path):
    """Meanwhile the folder is locked; the same command continues."""
    flags = ["--max-update", "9000", "--no-epoch-checkpoints", "--save-interval", "1000"]
    for begun in ("begin training epoch 3", "the run continues from"):
        with started(data, tmp_path, *flags) as process:
            for line in process.stdout:
                if begun in line:
                    break
            with started(data, tmp_path, *flags) as second:
                assert "a run is at work in" in second.communicate(timeout=100)[0]
                assert second.returncode == 1
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=100)
        assert process.returncode == stopping.EXIT_STATUS, output
        done = updates(tmp_path)
        assert f"stopped by a signal after update {done}" in output
    assert load(tmp_path / "checkpoint_last.pt")["extra_state"]["train_iterator"]["epoch"] >= 3


@pytest.mark.slow
def test_a_refusal_is_one_line(data, tmp_path):
    with started(data, tmp_path, "--best-checkpoint-metric", "los") as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith("b2t train: error: --best-checkpoint-metric los: the validation of")

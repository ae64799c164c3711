"""scripts/train.sh and its SLURM drivers: the resolved settings on simulated machines, and real runs of processes."""

import functools
import re
import shlex
import subprocess
import sys

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from helpers import ROOT, make_lm, make_model, make_task
from training import BIN, binarize, load, write_corpus
from wmt import SMALL_CONFIG, environment, script, stand_in

from b2t_fairseq import checkpoints
from b2t_fairseq.models.transformer_lm import B2TLanguageModel
from b2t_fairseq.settings.validation import STACKS

CONFIGS = sorted(path for path in ROOT.glob("configs/*/*.sh") if not path.name.startswith("_"))
WMT = "configs/wmt14_en_de"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus with a blank")
    write_corpus(folder)
    binarize(folder)
    return folder


def machine(folder, gpus, bf16=True):
    """Return a PATH on which Python says that it sees so many GPUs."""
    answer = f'case "$*" in *get_device_capability*) echo {gpus} {bf16} 23456; exit;; *tensorboard*) exit 0;; esac\n'
    return stand_in(folder / "machine", "python", f'{answer}exec "{BIN}/python" "$@"\n')


def planned(config, *arguments, gpus=8, bf16=True, folder, check=True, **variables):
    """Return what --dry-run prints, and the flags of the command in it."""
    path = machine(folder, gpus, bf16)
    result = script(
        "train.sh", ROOT / config, "--data", "/data", *arguments, "--dry-run", check=check, PATH=path, **variables
    )
    command = [line for line in result.stdout.splitlines() if line.startswith("b2t train")]
    return result.stdout, shlex.split(command[0])[2:] if command else None


def settings(flags):
    """Return fairseq's configuration for the flags, as ``b2t train`` parses them."""
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, [*flags, "--user-dir", str(ROOT / "b2t_fairseq")])
    args.tpu = False  # what fairseq makes of --bf16
    return convert_namespace_to_omegaconf(args)


class TestPlan:
    @pytest.mark.parametrize(
        ("gpus", "arguments", "max_tokens", "update_freq"),
        [
            (8, [], 3584, 16),
            (4, [], 3584, 32),
            (1, [], 3584, 128),
            (1, ["--max-tokens", "28672"], 28672, 16),
            (8, ["--gpus", "2", "--max-tokens=57344"], 57344, 4),
            (8, ["--update-freq", "3"], 3584, 3),
        ],
    )
    def test_updates_stay_at_the_papers_size(self, tmp_path, gpus, arguments, max_tokens, update_freq):
        text, flags = planned(f"{WMT}/b2t_18l.sh", *arguments, gpus=gpus, folder=tmp_path)
        cfg = settings(flags)
        assert cfg.dataset.max_tokens == max_tokens
        assert list(cfg.optimization.update_freq) == [update_freq]
        world = cfg.distributed_training.distributed_world_size
        assert world == (2 if "--gpus" in arguments else gpus)
        assert f"updates of {world * max_tokens * update_freq} tokens" in text
        if "--update-freq" not in arguments:
            assert world * max_tokens * update_freq == 458752

    @pytest.mark.parametrize(
        ("gpus", "arguments", "message"),
        [
            (
                3,
                [],
                "3 processes with --max-tokens 3584 cannot make updates of 458752 tokens;.* 2 processes .* 3584 can",
            ),
            (8, ["--max-tokens", "5000"], "8 processes with --max-tokens 4096 can"),
            (8, ["--max-tokens", "0"], "0: .* take a positive whole number"),
            (8, ["--distributed-world-size", "4"], "use --gpus"),
        ],
    )
    def test_refusals(self, tmp_path, gpus, arguments, message):
        text, flags = planned(f"{WMT}/b2t_18l.sh", *arguments, gpus=gpus, folder=tmp_path, check=False)
        assert flags is None
        assert re.search(f"error: .*{message}", text), text

    @pytest.mark.parametrize(
        ("gpus", "bf16", "arguments", "expected"),
        [
            (8, True, [], ["bf16"]),
            (8, False, [], ["fp16"]),
            (0, False, [], []),
            (8, True, ["--fp16"], ["fp16"]),
            (8, True, ["--cpu"], ["cpu"]),
        ],
    )
    def test_precision(self, tmp_path, gpus, bf16, arguments, expected):
        _, flags = planned(f"{WMT}/vanilla.sh", *arguments, gpus=gpus, bf16=bf16, folder=tmp_path)
        common = settings(flags).common
        assert [name for name in ("bf16", "fp16", "cpu") if common[name]] == expected

    def test_flags_of_the_command_line_win(self, tmp_path):
        arguments = ["--lr", "5e-4", "--seed", "3", "--save-dir", "/runs/mine", "--max-update=7"]
        _, flags = planned(f"{WMT}/vanilla.sh", *arguments, folder=tmp_path)
        cfg = settings(flags)
        assert (list(cfg.optimization.lr), cfg.common.seed, cfg.optimization.max_update) == ([5e-4], 3, 7)
        assert cfg.checkpoint.save_dir == "/runs/mine"
        assert cfg.common.tensorboard_logdir == "/runs/mine/tensorboard"

    def test_a_larger_machine_can_be_planned_for(self, tmp_path):
        text, flags = planned(f"{WMT}/vanilla.sh", "--gpus", "8", gpus=0, folder=tmp_path)
        assert "planning for 8 with bf16" in text
        assert settings(flags).common.bf16

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["/nowhere.sh"], "/nowhere.sh: no such configuration"),
            (["--dry-run"], "the configuration comes first"),
            ([str(ROOT / "setup.py")], "."),
            ([str(ROOT / "configs/small/cpu.sh"), "--cpu", "--data", "/nowhere"], "--data /nowhere: no binary data"),
        ],
    )
    def test_wrong_arguments(self, tmp_path, arguments, message):
        path = machine(tmp_path, 0)
        result = script("train.sh", *arguments, "--save-dir", tmp_path / "run", check=False, PATH=path)
        assert result.returncode != 0
        assert message in result.stdout
        assert not (tmp_path / "run").exists()


class TestConfigurations:
    @pytest.fixture(scope="class")
    def parsed(self):
        """A function from a configuration's name to fairseq's settings, read as train.sh reads them."""
        shell = '. "$1"; printf "%s\\0" "${model[@]}" "${training[@]}" --max-update "$max_update"'

        @functools.cache
        def parse(name):
            command = ["bash", "-euc", shell, "bash", str(ROOT / f"configs/{name}.sh")]
            flags = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
            return settings(["data", *flags[:-1]])

        return parse

    def test_every_configuration_is_fairseqs_flags_and_a_model(self, parsed):
        """Except those of the WMT tables, which docs/build/write_tables.py builds and test_reproduction.py checks."""
        names = [path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in CONFIGS]
        others = [name for name in names if not name.startswith("wmt14_en_de/")]
        assert len(others) >= 9
        for name in others:
            cfg = parsed(name)
            assert cfg.optimization.max_update > 0, name
            keys = {"residual", "layer_sharing", *(f"{s}_{n}" for s in STACKS for n in ("layers", "unique_layers"))}
            model = checkpoints.flat_settings(cfg.model)
            make = make_model if "encoder_layers" in model else make_lm
            make(**{key: model[key] for key in keys & model.keys()})

    @pytest.mark.parametrize(
        ("name", "millions"),
        [
            *(("vanilla", 60.9), ("universal", 62.9), ("big", 209.9), ("sequence_12", 60.9), ("cycle_rev_18", 60.9)),
            *(("b2t_18l_release", 149.2), ("b2t_100l", 752), ("b2t_cycle_rev_18", 60.9), ("pre_ln_6l", 60.9)),
        ],
    )
    def test_parameters_are_the_papers(self, parsed, name, millions):
        """On the meta device: no memory is taken for the 752M of the 100-layer model."""
        cfg = parsed(f"wmt14_en_de/{name}")
        flags = {key: cfg.model[key] for key in cfg.model if key != "_name"}
        with torch.device("meta"):
            model = make_model(task=make_task(32768 - 4), **flags)
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.51)

    @pytest.mark.parametrize("name", ["vanilla", "universal", "sequence_12", "cycle_12", "cycle_rev_12"])
    def test_language_models_have_the_papers_size(self, parsed, name, tmp_path):
        cfg = parsed(f"wikitext_103/{name}")
        with torch.device("meta"):
            model = B2TLanguageModel.build_model(cfg.model, make_task(267_744 - 4))
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(121, abs=0.5)
        depth, sets = (12, 6) if name.endswith("12") else (6, 1 if name == "universal" else 6)
        assert (len(model.decoder.layers), len(set(model.decoder.indices))) == (depth, sets)
        assert (cfg.model.residual, cfg.model.adaptive_input, cfg.criterion._name) == ("pre_ln", True, "adaptive_loss")
        # what 8 GPUs accumulate of 3 batches
        flags = planned(f"configs/wikitext_103/{name}.sh", gpus=1, folder=tmp_path)[1]
        assert flags[flags.index("--update-freq") + 1] == "24"

    def test_recipes(self, parsed):
        release = parsed("wmt14_en_de/b2t_18l_release")
        assert (release.model.dropout, release.model.depth_scaled_init) == (0.5, True)
        assert (release.model.encoder_word_dropout, release.optimization.clip_norm) == (0.1, 0.1)
        assert (list(release.optimization.lr), release.lr_scheduler.warmup_updates) == ([1e-3], 4000)
        sharing = parsed("wmt14_en_de/cycle_rev_18")
        assert (list(sharing.optimization.lr), sharing.lr_scheduler.warmup_updates) == ([2e-3], 8000)
        assert (sharing.optimization.clip_norm, sharing.checkpoint.keep_last_epochs) == (0.0, 20)
        assert (sharing.model.encoder_layers, sharing.model.encoder_unique_layers) == (18, 6)
        assert parsed("wmt14_en_de/b2t_100l").optimization.max_update == 25000


SLURM = {
    **{"SLURM_JOB_ID": "4711", "SLURM_NNODES": "2", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"},
    **{"SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "gpu[07-08]", "SLURM_STEP_NODELIST": "gpu[07-08]"},
}


class TestClusters:
    @pytest.mark.parametrize("node", [0, 1])
    def test_slurm(self, tmp_path, monkeypatch, node):
        """Two nodes with 8 GPUs, one task on each: fairseq finds the first node, and each node's ranks."""
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
    def test_wrong_jobs(self, tmp_path, variables, gpus, message):
        text, _ = planned(f"{WMT}/b2t_18l.sh", folder=tmp_path, gpus=gpus, check=False, **{**SLURM, **variables})
        assert message in text

    def test_interactive_job(self, tmp_path, monkeypatch):
        """One node with 4 GPUs and 4 tasks, no srun: fairseq spawns the processes, and asks nobody else."""
        variables = {"SLURM_JOB_ID": "4711", "SLURM_NNODES": "1", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "gpu07"}
        _, flags = planned(f"{WMT}/b2t_18l.sh", folder=tmp_path, gpus=4, **variables)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        distributed = settings(flags).distributed_training
        distributed_utils.infer_init_method(distributed)
        assert (distributed.distributed_world_size, distributed.distributed_no_spawn) == (4, False)
        assert distributed.distributed_init_method == "tcp://localhost:23456"

    @pytest.mark.parametrize("visible", [1, 8])
    def test_torchrun(self, tmp_path, monkeypatch, visible):
        """Each process is one rank of one run, whether it sees all of its node's GPUs or only its own."""
        variables = {"RANK": "11", "LOCAL_RANK": "3", "WORLD_SIZE": "16", "MASTER_ADDR": "gpu07", "MASTER_PORT": "1234"}
        _, flags = planned(f"{WMT}/b2t_18l.sh", folder=tmp_path, gpus=visible, **variables)
        distributed = settings(flags).distributed_training
        distributed_utils.infer_init_method(distributed)
        assert (distributed.distributed_world_size, distributed.distributed_rank) == (16, 11)
        assert (distributed.distributed_init_method, distributed.distributed_no_spawn) == ("env://", True)
        assert distributed.device_id == (0 if visible == 1 else 3)

    @pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (75, True)])
    def test_job_is_requeued_when_it_was_stopped(self, tmp_path, status, requeued):
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

    def test_sweep_as_an_array(self, tmp_path):
        """One element for each configuration and seed, then the table; each element does its own run."""
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
        # element 4 is the second configuration with the second seed
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

    @pytest.mark.parametrize(("sent", "received"), [("USR1", "USR1"), ("TERM", "TERM"), ("INT", "TERM")])
    def test_stopped_sweep(self, tmp_path, sent, received):
        """A signal to the sweep alone ends its training, and no other run begins; SIGTERM only where it was meant."""
        traps = " ".join(f"trap 'echo {name} >>\"$SEEN\"; kill $!; exit 75' {name};" for name in ("USR1", "TERM"))
        training = f'echo begun >>"$SEEN"; {traps} sleep 100 & kill -s {sent} $PPID; wait'
        path = stand_in(tmp_path, "bash", f'case "$1" in */train.sh) {training};; *) exec /bin/bash "$@";; esac')
        arguments = ("--seeds", "1 2", "--out", tmp_path / "out", ROOT / f"{WMT}/vanilla.sh")
        result = script("sweep.sh", *arguments, check=False, PATH=path, SEEN=str(tmp_path / "seen"))
        assert (tmp_path / "seen").read_text().split() == ["begun", received], result.stderr
        assert result.returncode == 75


class TestRuns:
    @pytest.mark.slow
    def test_two_processes_by_torchrun(self, corpus, tmp_path):
        """torchrun starts the script twice; both are one run with the updates of one process that accumulates."""
        (tmp_path / "config.sh").write_text(SMALL_CONFIG)
        data = ("--data", corpus / "bin")
        result = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    "--standalone",
                    "--nproc-per-node",
                    "2",
                    "--no-python",
                ),
                *("bash", str(ROOT / "scripts/train.sh"), str(tmp_path / "config.sh"), *map(str, data)),
                *("--save-dir", str(tmp_path / "two")),
            ],
            capture_output=True,
            text=True,
            timeout=200,
            env=environment(),
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert "2 process(es) on the CPU; updates of 320 tokens = 2 x 160 x 1" in result.stdout
        two = load(tmp_path / "two/checkpoint_last.pt")
        assert two["optimizer_history"][-1]["num_updates"] == 6
        log = (tmp_path / "two/train.log").read_text()
        assert "distributed world size 2" in log or "'distributed_world_size': 2" in log
        assert log.count("Start iterating over samples") == log.count("begin training epoch")
        script("train.sh", tmp_path / "config.sh", *data, "--save-dir", tmp_path / "one", "--cpu")
        one = load(tmp_path / "one/checkpoint_last.pt")
        assert one["optimizer_history"][-1]["num_updates"] == 6
        assert list(one["cfg"]["optimization"]["update_freq"]) == [2]
        for name, tensor in one["model"].items():
            if tensor.numel() > 1:
                assert (tensor - two["model"][name]).abs().max() < 1e-4, name
        assert list((tmp_path / "one/tensorboard").rglob("events*"))

    def test_one_run_in_a_folder(self, corpus, tmp_path):
        """Not while another one is at work, not with another configuration; the same one is left alone when done."""
        (tmp_path / "config.sh").write_text(SMALL_CONFIG.replace("max_update=6", "max_update=1"))
        arguments = (tmp_path / "config.sh", "--data", corpus / "bin", "--save-dir", tmp_path / "run", "--cpu")
        script("train.sh", *arguments)
        before = (tmp_path / "run/checkpoint_last.pt").read_bytes()
        locked = ["flock", str(tmp_path / "run/.lock"), "bash", str(ROOT / "scripts/train.sh"), *map(str, arguments)]
        result = subprocess.run(locked, capture_output=True, text=True, env=environment())
        assert result.returncode == 1
        assert "a run is at work" in result.stderr
        assert "nothing to do" in script("train.sh", *arguments).stdout
        # refused before any model is made
        result = script("train.sh", *arguments, "--lr", "0.1", check=False)
        assert result.returncode == 1
        assert "was begun with other settings" in result.stdout
        assert (tmp_path / "run/checkpoint_last.pt").read_bytes() == before

    def test_the_papers_updates_are_not_for_a_cpu(self, tmp_path):
        config = ROOT / "configs/wmt14_en_de/b2t_18l.sh"
        arguments = ("train.sh", config, "--data", tmp_path, "--save-dir", tmp_path / "run")
        result = script(*arguments, check=False, PATH=machine(tmp_path, gpus=0))
        assert result.returncode == 1
        assert "no GPU is visible here, and for one update of 458752 tokens a CPU needs many minutes" in result.stdout
        # so the next thing to complain about is reached
        result = script(*arguments, "--cpu", check=False, PATH=machine(tmp_path, gpus=0))
        assert "no binary data" in result.stdout
        assert not (tmp_path / "run").exists()

    def test_no_checkpoint_is_an_error(self, corpus, tmp_path):
        (tmp_path / "config.sh").write_text(SMALL_CONFIG)
        arguments = ("--data", corpus / "bin", "--save-dir", tmp_path / "run", "--cpu", "--max-epoch", "1")
        result = script(
            "train.sh",
            tmp_path / "config.sh",
            *arguments,
            *("--no-last-checkpoints", "--no-epoch-checkpoints", "--disable-validation"),
            check=False,
        )
        assert result.returncode == 1
        assert "training ended without any checkpoint" in result.stdout

"""What scripts/train.sh and scripts/setup.sh choose for a GPU, on simulated machines: batches, precision, PyTorch."""

import argparse
import importlib.util
import re

import pytest
import torch
from commands import BIN, script, stand_in
from helpers import ROOT
from planning import WMT, planned, settings

from benchmarks import activation_memory
from scripts import batch_size, gpu_driver, visible_gpus

H100, A100, RTX_4090 = 81_559, 40_960, 24_564  # MiB, as nvidia-smi shows them


class TestBatchMemory:
    def test_every_configuration_has_a_line(self):
        """Otherwise scripts/train.sh could not choose."""
        table = batch_size.read_table()
        models = {activation_memory.read_configuration(path)[0] for path in activation_memory.configurations()}
        assert models == table.keys(), "run python -m benchmarks.activation_memory"

    @pytest.mark.parametrize(
        "name", [pytest.param("wmt14_en_de/dlcl_6l", marks=pytest.mark.slow), "multi30k/b2t", "librispeech/b2t_s"]
    )
    def test_the_table_is_what_autograd_keeps(self, name):
        """Some percent depend on the processor: how oneDNN and attention compute decides what they keep."""
        model, flags = activation_memory.read_configuration(ROOT / f"configs/{name}.sh")
        row, counted = batch_size.read_table()[model], activation_memory.count(flags)
        assert counted.parameters == row.parameters
        assert counted.token_bytes == pytest.approx(row.token_bytes, rel=0.05)
        assert counted.widest_bytes == row.widest_bytes


class TestChoice:
    @pytest.fixture
    def choose(self):
        """Return a function from a machine and a model to the chosen --max-tokens and the reason."""
        row = batch_size.Row(parameters=10**6, token_bytes=500_000, widest_bytes=4096)

        def choose(memory, processes=1, model="--arch known", flags=(), training="", own=3584, update=458_752):
            args = argparse.Namespace(memory=memory, processes=processes, model=model, flags=flags, training=training)
            args.max_tokens, args.update = own, update
            return batch_size.choose(args, {"--arch known": row})

        return choose

    @pytest.mark.parametrize(
        ("memory", "expected", "reason"),
        [
            (
                H100,
                28672,
                "an update needs 15.8 GiB of the GPU's 79.6 GiB, and an update should have at least 16 batches",
            ),
            (16_384, 14336, "the next larger batch would leave less than 10% free"),
            (8192, 7168, "the next larger batch would leave less than 10% free"),
            (
                3072,
                3584,
                "but an update needs 3.7 GiB of the GPU's 3.0 GiB; if that fails, add --checkpoint-activations",
            ),
        ],
    )
    def test_the_largest_batch_that_fits(self, choose, memory, expected, reason):
        number, words = choose(memory)
        assert number == expected
        assert reason in words

    def test_a_tenth_of_the_memory_stays_free(self, choose):
        row = batch_size.Row(10**6, 500_000, 4096)
        for memory in range(4096, 32_768, 512):
            number, _ = choose(memory)
            assert number % 3584 == 458_752 % number == 0
            assert row.needed_bytes(number) <= 0.9 * memory * 2**20 or number == 3584

    def test_several_gpus_keep_the_size_of_an_update(self, choose):
        assert choose(H100, processes=8)[0] == 28672
        assert choose(H100, processes=64)[0] == 7168
        # 3 GPUs cannot make such an update, which scripts/train.sh says
        assert choose(H100, processes=3)[0] == 3584

    def test_blocks_of_text_have_one_length(self, choose):
        """So an update may be a single batch."""
        assert choose(H100, own=3072, update=73_728, training="--sample-break-mode none --lr 1")[0] == 73_728
        assert choose(H100, own=3072, update=73_728, training="--sample-break-mode eos")[0] == 3072

    @pytest.mark.parametrize("flag", ["--r-drop", "--rdrop-alpha"])
    def test_r_drop_computes_two_passes_at_a_time(self, choose, flag):
        """A batch needs the memory of one twice as large, whoever gives the flag."""
        for given in ({"training": f"--lr 1 {flag} 5"}, {"flags": [flag, "5", "--lr", "1"]}):
            assert choose(16_384, **given)[0] <= choose(16_384)[0] / 2
        assert choose(16_384, flags=[flag, "0.0"])[0] == choose(16_384)[0]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"model": "--arch other"}, "batch_memory.tsv has no line for its model"),
            ({"flags": ["--lr", "1", "--encoder-layers", "12"]}, "because --encoder-layers may change how much memory"),
            ({"flags": ["--lr", "1", "--seed", "3"]}, None),
        ],
    )
    def test_what_was_not_counted_keeps_the_configurations(self, choose, change, reason):
        number, words = choose(H100, **change)
        assert number == (3584 if reason else 28672)
        assert reason is None or reason in words


class TestTrainSh:
    @pytest.mark.parametrize(("gpus", "update_freq"), [(1, 16), (8, 2)])
    def test_batches_fill_one_gpu_or_several(self, tmp_path, gpus, update_freq):
        text, flags = planned(f"{WMT}/b2t_18l.sh", gpus=gpus, memory=H100, can_compile=True, folder=tmp_path)
        cfg = settings(flags)
        assert (cfg.dataset.max_tokens, list(cfg.optimization.update_freq)) == (28672, [update_freq])
        assert (cfg.common.bf16, cfg.model.compile) == (True, True)
        assert cfg.dataset.num_workers >= 2
        assert f"{gpus} GPU(s), bf16; updates of 458752 tokens = {gpus} x 28672 x {update_freq}" in text
        for choice in ("--max-tokens 28672: an update needs", "--bf16: ", "--compile: ", "--num-workers "):
            assert f"\n   {choice}" in text

    def test_flags_of_the_user_win(self, tmp_path):
        flags = ["--max-tokens", "7168", "--fp16", "--no-compile", "--num-workers", "1"]
        text, flags = planned(f"{WMT}/b2t_18l.sh", *flags, gpus=1, memory=H100, can_compile=True, folder=tmp_path)
        cfg = settings(flags)
        assert (cfg.dataset.max_tokens, cfg.dataset.num_workers) == (7168, 1)
        assert (cfg.common.bf16, cfg.common.fp16, cfg.model.compile) == (False, True, False)
        assert "without --compile: --no-compile was given" in text

    def test_a_run_keeps_what_it_began_with(self, tmp_path):
        """On a GPU with more memory too; within an epoch its batches must stay the same."""
        (tmp_path / "run").mkdir()
        (tmp_path / "run/checkpoint_last.pt").touch()
        arguments = (f"{WMT}/b2t_18l.sh", "--save-dir", tmp_path / "run")
        text, _ = planned(*arguments, gpus=1, memory=H100, can_compile=True, folder=tmp_path)
        assert "updates of 458752 tokens = 1 x 3584 x 128" in text  # begun by a version that did not choose
        assert "without --compile: the run began without it" in text
        (tmp_path / "run/chosen.txt").write_text("--bf16 14336\n")
        text, _ = planned(*arguments, gpus=1, memory=H100, can_compile=True, folder=tmp_path)
        assert "--max-tokens 14336: as the run began" in text
        text, flags = planned(*arguments, gpus=1, bf16=False, memory=H100, folder=tmp_path)
        assert settings(flags).common.fp16
        assert "--fp16: the run trained in bf16 so far, which these GPUs do not support" in text

    def test_one_gpu_of_several(self, tmp_path):
        """A small configuration is trained on it with its own batches."""
        _, flags = planned("configs/small/gpu.sh", "--gpus", "1", gpus=8, memory=A100, folder=tmp_path)
        cfg = settings(flags)
        assert cfg.distributed_training.distributed_world_size == 1
        assert (cfg.dataset.max_tokens, list(cfg.optimization.update_freq)) == (16384, [1])

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ("small/gpu", "an update of this configuration has 16384 tokens, one batch of one GPU, .* use --gpus 1"),
            ("multi30k/b2t", "this configuration is made for one GPU: .* use --gpus 1"),
        ],
    )
    def test_small_configurations_ask_for_one_gpu(self, tmp_path, config, message):
        text, flags = planned(f"configs/{config}.sh", gpus=8, memory=A100, folder=tmp_path, check=False)
        assert flags is None
        assert re.search(f"error: {message}", text), text


def test_what_is_seen_of_a_machine(monkeypatch, capsys):
    """The memory is that of the smallest GPU; an old one rules out bf16 and torch.compile for all."""
    capabilities, memory = [(9, 0), (7, 5)], [80, 16]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: argparse.Namespace(total_memory=memory[index] * 2**30)
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("CC", "gcc")
    visible_gpus.main()
    count, has_bf16, _, smallest, can_compile = capsys.readouterr().out.split()
    assert (count, has_bf16, smallest, can_compile) == ("2", "False", str(16 * 1024), "True")
    assert not visible_gpus.can_compile([(9, 0), (6, 1)])
    assert not visible_gpus.can_compile([])


class TestDriver:
    @pytest.mark.parametrize(
        ("cuda", "gpu", "expected"),
        [
            (13, ("580.95.05", (9, 0), "NVIDIA H100"), None),
            (13, ("535.129.03", (9, 0), "NVIDIA H100"), "driver 535.129.03 is older than 580.*torch==2.13.0.cu126"),
            (12, ("535.129.03", (7, 0), "Tesla V100"), None),
            (13, ("580.95.05", (7, 0), "Tesla V100"), "Tesla V100 has compute capability 7.0, and CUDA 13 needs 7.5"),
            (12, ("470.57.02", (8, 0), "NVIDIA A100"), "older than 525, which CUDA 12 needs. Update it"),
            (0, ("580.95.05", (9, 0), "NVIDIA H100"), "built for CPUs only"),
        ],
    )
    def test_old_drivers_and_gpus(self, cuda, gpu, expected):
        text = gpu_driver.advice(cuda, [gpu])
        assert text is None if expected is None else re.search(expected, text, flags=re.DOTALL)

    def test_setup_installs_nothing_that_cannot_run(self, tmp_path):
        """On a machine with an old driver it names the PyTorch to choose, before anything is downloaded."""
        answer = 'echo "550.54.14, 8.0, NVIDIA A100-SXM4-40GB"'
        stand_in(tmp_path / "machine", "nvidia-smi", answer)
        refusal = 'case "$*" in *is_installed.py*|*"import torch"*) exit 1;; *pip*) echo pip was called; exit 1;; esac'
        path = stand_in(tmp_path / "machine", "python", f'{refusal}\nexec "{BIN}/python" "$@"\n')
        result = script("setup.sh", check=False, PATH=path)
        assert result.returncode == 1
        assert "driver 550.54.14 is older than 580" in result.stdout
        assert "/whl/cu126 B2T_TORCH=torch==2.13.0+cu126 bash scripts/setup.sh" in result.stdout
        assert "pip was called" not in result.stdout
        # who names a PyTorch knows what it needs
        result = script("setup.sh", check=False, PATH=path, B2T_TORCH="torch==2.11.0")
        assert "pip was called" in result.stdout

"""The settings with which scripts/train.sh and the files in configs/ train."""

import functools
import re
import subprocess

import pytest
import torch
from commands import script
from helpers import ROOT, make_model, make_task
from language_models import make_lm
from planning import WMT, machine, planned, settings

from b2t_common.names import STACKS
from b2t_fairseq import checkpoints
from b2t_fairseq.models.transformer_lm import B2TLanguageModel

CONFIGS = sorted(path for path in ROOT.glob("configs/*/*.sh") if not path.name.startswith("_"))


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
            (3, [], "3 processes with .* 3584 cannot make updates of 458752 tokens;.* 2 processes .* 3584 can"),
            (8, ["--max-tokens", "5000"], "8 processes with --max-tokens 4096 can"),
            (8, ["--max-tokens", "0"], "0: .* take a positive whole number"),
            (8, ["--distributed-world-size", "4"], "use --gpus"),
        ],
    )
    def test_updates_of_another_size_are_refused(self, tmp_path, gpus, arguments, message):
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
    def test_precision_follows_the_machine(self, tmp_path, gpus, bf16, arguments, expected):
        """A GPU with bf16 uses it, another GPU fp16, a CPU neither, unless a flag of the command line says so."""
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
            ([str(ROOT / "scripts/lib.sh")], "lib.sh does not set model=(...): it is not a configuration"),
            ([str(ROOT / "configs/small/cpu.sh"), "--cpu", "--data", "/nowhere"], "--data /nowhere: no binary data"),
        ],
    )
    def test_wrong_arguments_leave_no_folder(self, tmp_path, arguments, message):
        path = machine(tmp_path, 0)
        result = script("train.sh", *arguments, "--save-dir", tmp_path / "run", check=False, PATH=path)
        assert result.returncode != 0
        assert message in result.stdout
        assert not (tmp_path / "run").exists()


class TestConfigurations:
    @pytest.fixture(scope="class")
    def parsed(self):
        """Return a function from a configuration's name to fairseq's settings, read as train.sh reads them."""
        shell = '. "$1"; printf "%s\\0" "${model[@]}" "${training[@]}" --max-update "$max_update"'

        @functools.cache
        def parse(name):
            command = ["bash", "-euc", shell, "bash", str(ROOT / f"configs/{name}.sh")]
            flags = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
            return settings(["data", *flags[:-1]])

        return parse

    def test_every_configuration_is_fairseqs_flags_and_a_model(self, parsed):
        """Except those of WMT and IWSLT, which docs/build/write_tables.py builds and test_reproduction.py checks."""
        names = [path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in CONFIGS]
        others = [name for name in names if not name.startswith(("wmt14_en_de/", "iwslt14_de_en/"))]
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
            ("vanilla", 60.9),
            ("universal", 62.9),
            ("big", 209.9),
            ("sequence_12", 60.9),
            ("cycle_rev_18", 60.9),
            ("b2t_18l_release", 149.2),
            ("b2t_100l", 752),
            ("b2t_cycle_rev_18", 60.9),
            ("pre_ln_6l", 60.9),
        ],
    )
    def test_parameters_are_the_papers(self, parsed, name, millions):
        """Models are built on the meta device, since the 100-layer model has 752M parameters."""
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
        # One GPU accumulates the batches of 8 GPUs with --update-freq 3.
        flags = planned(f"configs/wikitext_103/{name}.sh", gpus=1, folder=tmp_path)[1]
        assert flags[flags.index("--update-freq") + 1] == "24"

    def test_recipes_are_the_papers(self, parsed):
        """Dropout, word dropout, initialization, learning rate, warm-up and clipping are those of the papers."""
        release = parsed("wmt14_en_de/b2t_18l_release")
        assert (release.model.dropout, release.model.depth_scaled_init) == (0.5, True)
        assert (release.model.encoder_word_dropout, release.optimization.clip_norm) == (0.1, 0.1)
        assert (list(release.optimization.lr), release.lr_scheduler.warmup_updates) == ([1e-3], 4000)
        sharing = parsed("wmt14_en_de/cycle_rev_18")
        assert (list(sharing.optimization.lr), sharing.lr_scheduler.warmup_updates) == ([2e-3], 8000)
        assert (sharing.optimization.clip_norm, sharing.checkpoint.keep_last_epochs) == (0.0, 20)
        assert (sharing.model.encoder_layers, sharing.model.encoder_unique_layers) == (18, 6)
        assert parsed("wmt14_en_de/b2t_100l").optimization.max_update == 25000

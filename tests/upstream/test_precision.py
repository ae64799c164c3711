"""Runs in half precision: what a checkpoint holds of them, and that each continues as if it had not been stopped."""

import re
import shlex
import sys

import pytest
import torch
from fairseq.trainer import Trainer
from fairseq_cli import generate
from processes import two_processes
from safetensors.torch import load_file
from training import SHARED, assert_same_model, assert_same_run, continue_elsewhere, load, train, whole_and_resumed

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_fairseq.upstream import optimizer_layout
from b2t_fairseq.upstream.patching import ORIGINALS

# The loss scale grows after every second update, and gradients overflow before and after the interruption.
SCALED = shlex.split("--fp16-init-scale 16384 --fp16-scale-window 2 --clip-norm 1.0")
MODEL = [*SHARED, "--disable-validation", "--no-epoch-checkpoints"]
PRECISIONS = {
    "bf16": ["--bf16"],
    "fp16": ["--fp16", *SCALED],
    "fp16-not-flat": ["--fp16", "--fp16-no-flatten-grads", *SCALED],
    "memory-efficient-bf16": ["--memory-efficient-bf16"],
    "memory-efficient-fp16": ["--memory-efficient-fp16", *SCALED],
}


def is_rounded(state, dtype):
    """Return whether the weights of a checkpoint are numbers of a type in half precision."""
    return all(number.equal(number.to(dtype).to(number.dtype)) for number in state["model"].values())


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_resumed_run_equals_an_uninterrupted_one(data, tmp_path, name):
    """Its checkpoints have float32 weights, but where the optimizer steps rounded ones they are these."""
    flags = [*MODEL, "--encoder-word-dropout", "0.1", *PRECISIONS[name], "--max-update"]
    whole, resumed = whole_and_resumed(data, tmp_path, *flags, command=b2t_train)
    assert_same_run(whole, resumed)
    assert {number.dtype for number in whole["model"].values()} == {torch.float32}
    assert is_rounded(whole, torch.bfloat16 if "bf16" in name else torch.float16) == ("memory" in name)
    # tied weights are written once, as in float32
    layers = [whole["model"][f"encoder.layers.{number}.fc1.weight"] for number in (0, 3)]
    assert layers[0].data_ptr() == layers[1].data_ptr()


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The folders of two updates, by the name of the precision."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("float32", "bf16", "fp16")}
    for name, folder in folders.items():
        train(data, folder, *MODEL, *PRECISIONS.get(name, []), "--max-update", "2", command=b2t_train)
    return folders


def test_rounded_weights_are_those_of_fairseqs_checkpoint(data, runs, tmp_path, monkeypatch, capsys):
    """So what is translated in half precision stays the same."""
    for method in ("state_dict", "load_checkpoint"):
        monkeypatch.setattr(Trainer, method, ORIGINALS[f"fairseq.trainer.Trainer.{method}"])
    stock = train(data, tmp_path, *MODEL, *PRECISIONS["fp16"], "--max-update", "2")
    ours = load(runs["fp16"] / "checkpoint_last.pt")
    assert is_rounded(stock, torch.float16)
    assert_same_model(stock, {"model": {name: number.half() for name, number in ours["model"].items()}})
    outputs = []
    for folder in (tmp_path, runs["fp16"]):
        flags = ["--cpu", "--fp16", "--beam", "2", "--max-len-b", "20", "--num-workers", "0"]
        # b2t generate refuses half precision on a CPU, where it is slow
        arguments = ["fairseq-generate", data, "--path", str(folder / "checkpoint_last.pt"), *flags]
        monkeypatch.setattr(sys, "argv", arguments)
        generate.cli_main()
        outputs.append(re.findall(r"^[HP]-.*", capsys.readouterr().out, flags=re.MULTILINE))
    assert outputs[0] == outputs[1] != []


class TestAnotherPrecision:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("float32", "bf16"),
            ("bf16", "fp16"),
            ("fp16", "bf16"),
            ("fp16", "float32"),
            ("fp16", "memory-efficient-fp16"),
        ],
    )
    def test_a_run_goes_on_in_it(self, data, runs, tmp_path, before, after, caplog):
        """Weights and moving averages are taken over, whatever form they had; a small learning rate shows it."""
        (tmp_path / "checkpoint_last.pt").write_bytes((runs[before] / "checkpoint_last.pt").read_bytes())
        caplog.set_level("INFO")
        flags = [*MODEL, *PRECISIONS.get(after, []), "--max-update", "3", "--lr", "1e-9"]
        now, then = train(data, tmp_path, *flags, command=b2t_train), load(runs[before] / "checkpoint_last.pt")
        assert re.search(r"the run continues (with --|in float32)\S*; .* was written", caplog.text)
        assert now["optimizer_history"][-1]["num_updates"] == 3
        assert {state["step"] for state in now["last_optimizer_state"]["state"].values()} == {3}
        rounding = 2**-11 if after == "memory-efficient-fp16" else 0
        for name, number in then["model"].items():
            torch.testing.assert_close(now["model"][name], number, rtol=rounding, atol=1e-7)

    def test_states_of_the_optimizer_are_split_and_joined(self):
        """A parameter without a gradient so far has no state, which is the same as moving averages of zero."""
        shapes = [torch.Size(shape) for shape in [(2, 3), (4,), (1, 5)]]
        averages = [torch.randn(shape) for shape in shapes]
        states = {number: {"step": 7, "exp_avg": average} for number, average in enumerate(averages)}
        group = {"lr": 0.1, "lr_old": 0.2}
        parts = {"state": states, "param_groups": [{**group, "params": [0, 1, 2]}], "loss_scale": 8.0}
        flat = optimizer_layout.fitting(parts, shapes, flat=True)
        assert flat["param_groups"] == [{**group, "params": [0]}]
        assert flat["state"][0]["exp_avg"].equal(torch.cat([average.flatten() for average in averages]))
        torch.testing.assert_close(optimizer_layout.fitting(flat, shapes, flat=False), parts, rtol=0, atol=0)
        for state, is_flat in ((parts, False), (flat, True)):
            assert optimizer_layout.fitting(state, shapes, is_flat) == state
        del states[1]
        assert not optimizer_layout.fitting(parts, shapes, flat=True)["state"][0]["exp_avg"][6:10].any()


def test_a_checkpoint_without_masters_continues_with_a_word(data, runs, tmp_path, caplog):
    """Such are those of fairseq alone and of older versions: their weights are rounded, and the run continues."""
    state = load(runs["bf16"] / "checkpoint_last.pt")
    state["model"].update({name: number.bfloat16().to(number.dtype) for name, number in state["model"].items()})
    del state["extra_state"]["b2t_loss_scaling"]
    torch.save(state, tmp_path / "checkpoint_last.pt")
    flags = [*MODEL, "--bf16", "--max-update"]
    train(data, tmp_path, *flags, "3", command=b2t_train)
    word = "was written without the float32 copies of the weights"
    assert caplog.text.count(word) == 1
    caplog.clear()
    train(data, tmp_path, *flags, "4", command=b2t_train)
    assert word not in caplog.text


def test_fine_tuning_begins_with_all_bits(data, runs, tmp_path):
    """An average is one of float32 weights, and is not rounded before the first update."""
    averaged = tmp_path / "averaged.pt"
    b2t(["average", str(runs["bf16"] / "checkpoint_last.pt"), "--output", str(averaged)])
    assert_same_model(load(averaged), load(runs["bf16"] / "checkpoint_last.pt"))
    flags = [*MODEL, "--bf16", "--finetune-from-model", str(averaged), "--max-update", "1", "--lr", "1e-9"]
    assert_same_model(load(averaged), train(data, tmp_path / "run", *flags, command=b2t_train), tolerance=1e-7)


def test_conversion_keeps_all_bits(runs, tmp_path):
    checkpoint = runs["bf16"] / "checkpoint_last.pt"
    assert b2t(["convert", str(checkpoint), str(tmp_path / "model"), "--to", "safetensors"]) == 0
    weights, model = load_file(tmp_path / "model.safetensors"), load(checkpoint)["model"]
    assert all(weight.equal(model[name]) for name, weight in weights.items())


def test_moving_averages_in_half_precision_continue(data, tmp_path):
    ema = ["--store-ema", "--ema-decay", "0.9", "--ema-fp32", "--ema-update-freq", "2"]
    flags = [*MODEL, "--bf16", *ema, "--max-update"]
    assert_same_run(*whole_and_resumed(data, tmp_path, *flags, command=b2t_train))


def test_two_processes_continue_bit_by_bit(data, tmp_path):
    flags = [*MODEL, "--ddp-backend", "legacy_ddp", *PRECISIONS["fp16"], "--max-update", "3"]
    two_processes(data, tmp_path / "whole", *flags, "--save-interval-updates", "1")
    continue_elsewhere(tmp_path)
    two_processes(data, tmp_path / "parts", *flags)
    assert_same_run(*(load(tmp_path / run / "checkpoint_last.pt") for run in ("whole", "parts")))

"""The models in fairseq's own training loop: learning, continued runs, precision, recomputation, hydra."""

import os
import re
import subprocess

import pytest
import torch
from commands import command_line, run
from helpers import ROOT, make_batch, make_model
from training import MODEL_FLAGS, PLUGIN, SHARED, TRAIN_FLAGS, assert_same_model, load, train

from b2t_cli.train import main as b2t_train
from b2t_fairseq.tying import same_layers


def sharing_flags(strategy):
    if strategy == "none":
        return []
    return ["--layer-sharing", strategy, "--encoder-unique-layers", "2", "--decoder-unique-layers", "2"]


# Schemes with parameters or buffers of their own are here; test_schemes.py saves and loads every scheme.
@pytest.mark.parametrize(
    ("scheme", "strategy"),
    [
        pytest.param("post_ln", "none", marks=pytest.mark.slow),
        ("admin", "sequence"),
        pytest.param("dlcl", "cycle", marks=pytest.mark.slow),
        ("b2t", "cycle_rev"),
        # its products leave padding out
        ("b2t --criterion label_smoothed_cross_entropy_fused", "cycle_rev"),
        ("branch_norm --branch-norm-updates 8", "none"),
        pytest.param("resi_dual", "cycle", marks=pytest.mark.slow),
    ],
)
def test_resumed_run_equals_uninterrupted_run(data, tmp_path, scheme, strategy):
    """Two epochs give the same bits as one epoch and then another, in the weights and in the optimizer's state."""
    flags = ["--residual", *scheme.split(), *sharing_flags(strategy), "--encoder-word-dropout", "0.1"]
    whole = train(data, tmp_path / "whole", *flags, "--max-epoch", "2")
    train(data, tmp_path / "parts", *flags, "--max-epoch", "1")
    resumed = train(data, tmp_path / "parts", *flags, "--max-epoch", "2")
    assert_same_model(whole, resumed)
    states = [checkpoint["last_optimizer_state"]["state"] for checkpoint in (whole, resumed)]
    for index, state in states[0].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(states[1][index][k])) for k, v in state.items())
    model = whole["model"]
    names = [name for name in model if name.startswith("encoder.layers.") and "residual" not in name]
    layers = [
        {name.split(".", 3)[3]: model[name] for name in names if name.startswith(f"encoder.layers.{depth}.")}
        for depth in range(4)
    ]
    expected = {"none": [0, 1, 2, 3], "sequence": [0, 0, 1, 1], "cycle": [0, 1, 0, 1], "cycle_rev": [0, 1, 1, 0]}
    assert same_layers(layers) == expected[strategy]
    # The optimizer has one state for each parameter set.
    buffers = ("version", "profiled", "_float_tensor", ".update")
    tied = len({tensor.data_ptr() for name, tensor in model.items() if not name.endswith(buffers)})
    assert len(states[0]) == tied


def test_training_learns(data, tmp_path):
    """With shared layers, scaled initialization and several epochs, the loss falls far below that of guessing."""
    flags = ["--max-epoch", "12", "--dropout", "0", "--depth-scaled-init", "--max-tokens", "60", *SHARED]
    state = train(data, tmp_path, *flags, "--no-epoch-checkpoints")
    # Guessing among the 28 symbols of the dictionary costs log2(28) = 4.8 bits.
    assert state["extra_state"]["best"] < 4.0


@pytest.mark.parametrize("flags", [[], SHARED], ids=["unshared", "shared"])
def test_update_freq_equals_one_large_batch(data, tmp_path, flags):
    """Without dropout, the gradients of four batches add up to those of one batch four times as large."""
    flags = [*flags, "--max-epoch", "1", "--dropout", "0", "--max-tokens", "100000"]
    batch = train(data, tmp_path / "batch", *flags, "--batch-size", "120")
    parts = train(data, tmp_path / "parts", *flags, "--batch-size", "30", "--update-freq", "4")
    assert batch["optimizer_history"][-1]["num_updates"] == parts["optimizer_history"][-1]["num_updates"] == 1
    assert_same_model(batch, parts, tolerance=1e-5)


@pytest.mark.parametrize("flags", [pytest.param([], marks=pytest.mark.slow), SHARED], ids=["unshared", "shared"])
@pytest.mark.parametrize("recompute", ["--checkpoint-activations", "--offload-activations"])
def test_recomputed_activations_give_the_same_run(data, tmp_path, flags, recompute):
    plain = train(data, tmp_path / "plain", *flags, "--max-update", "4")
    again = train(data, tmp_path / "again", *flags, "--max-update", "4", recompute)
    # The gradient of a key's bias is zero except for rounding, which Adam enlarges.
    assert_same_model(plain, again, tolerance=1e-4)


@pytest.mark.parametrize("flags", [pytest.param([], marks=pytest.mark.slow), SHARED], ids=["unshared", "shared"])
def test_bf16_learns_as_float32_does(data, tmp_path, flags):
    """The losses agree to the precision of bf16, and tied layers stay equal and are written once, in float32."""
    flags = [*flags, "--max-epoch", "3", "--dropout", "0", "--clip-norm", "1.0"]
    full = train(data, tmp_path / "full", *flags, command=b2t_train)
    half = train(data, tmp_path / "half", *flags, "--bf16", command=b2t_train)
    assert full["optimizer_history"][-1]["num_updates"] == half["optimizer_history"][-1]["num_updates"]
    assert half["extra_state"]["val_loss"] == pytest.approx(full["extra_state"]["val_loss"], rel=0.05)
    assert not torch.equal(half["model"]["encoder.layers.0.fc1.weight"], full["model"]["encoder.layers.0.fc1.weight"])
    for name, tensor in half["model"].items():
        assert tensor.dtype in (torch.float32, torch.int64), name
        if flags[0] == SHARED[0] and name.startswith("encoder.layers.0."):
            assert torch.equal(tensor, half["model"][name.replace("layers.0", "layers.3")])
    storages = [len({t.data_ptr() for t in state["model"].values() if t.numel()}) for state in (full, half)]
    assert storages[0] == storages[1]


def test_killed_run_ends_with_the_same_weights(data, tmp_path):
    """A run that is killed between two checkpoints and started again has the weights of an uninterrupted one."""
    flags = [*SHARED, "--max-update", "24", "--save-interval-updates", "5", "--encoder-word-dropout", "0.1"]
    whole = train(data, tmp_path / "whole", *flags)
    argv = [*command_line("fairseq-train"), data, *MODEL_FLAGS, *TRAIN_FLAGS, *flags]
    process = subprocess.Popen(
        [*argv, "--save-dir", str(tmp_path / "killed")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for line in process.stdout:
        update = re.search(r'"num_updates": "(\d+)"', line)
        if update and int(update.group(1)) >= 12:
            process.kill()
            break
    process.stdout.close()
    assert process.wait() == -9
    saved = load(tmp_path / "killed/checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]
    assert saved < 24
    assert_same_model(whole, train(data, tmp_path / "killed", *flags))


def test_a_run_of_fairseqs_transformer_goes_on_as_post_ln(data, tmp_path):
    """Parameter names are fairseq's, so that a run continues here from its checkpoint as it would there, bit by bit."""
    stock = train(data, tmp_path / "stock", "--arch", "transformer_tiny", "--max-epoch", "1")
    flags = ["--residual", "post_ln", "--kernels", "fairseq"]
    flags += ["--restore-file", str(tmp_path / "stock/checkpoint_last.pt")]
    ours = train(data, tmp_path / "ours", *flags, "--max-epoch", "2")
    longer = train(data, tmp_path / "stock", "--arch", "transformer_tiny", "--max-epoch", "2")
    assert list(stock["model"]) == list(ours["model"])
    assert_same_model(ours, longer)


HYDRA_OVERRIDES = """
common.cpu=true common.seed=7
dataset.max_tokens=160 dataset.required_batch_size_multiple=1 dataset.num_workers=0
+model.encoder_embed_dim=16 +model.encoder_ffn_embed_dim=32
+model.encoder_attention_heads=2 +model.decoder_attention_heads=2
model.encoder_layers=4 model.decoder_layers=4 model.encoder_unique_layers=2 model.decoder_unique_layers=2
model.dropout=0.1
optimization.max_update=3 optimization.lr=[0.01] optimization.clip_norm=0.1 optimization.update_freq=[1]
task.subword_sampling=none +task.subword_model=unused
lr_scheduler.warmup_updates=4 lr_scheduler.warmup_init_lr=-1
"""


def test_hydra_trains_the_same_model(data, tmp_path):
    """fairseq-hydra-train with the YAML file in configs/ gives the same weights as flags on the command line."""
    flags = ["--residual", "b2t", *SHARED, "--max-update", "3"]
    by_flags = train(data, tmp_path / "flags", *flags)
    config = ["--config-dir", str(ROOT / "configs/hydra"), "--config-name", "b2t_cycle_rev"]
    folders = [f"common.user_dir={PLUGIN}", f"task.data={data}", f"hydra.run.dir={tmp_path}"]
    folders.append(f"checkpoint.save_dir={tmp_path / 'hydra'}")
    run("fairseq-hydra-train", *config, *folders, *HYDRA_OVERRIDES.split())
    assert_same_model(by_flags, load(tmp_path / "hydra/checkpoint_last.pt"))


def test_a_model_in_float16_runs_forward_and_backward():
    """fairseq trains in fp16 on GPUs only; the model itself works in it on a CPU too, and stays tied."""
    flags = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 3}
    full, half = make_model(**flags), make_model(**flags).half()
    assert len(list(half.parameters())) == len(list(full.parameters()))
    outputs = [model(**make_batch()["net_input"])[0] for model in (full, half)]
    assert (outputs[0] - outputs[1]).abs().max() < 0.02
    outputs[1].float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in half.parameters())

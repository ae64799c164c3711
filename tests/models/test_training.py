"""The models inside fairseq's own training loop: resume, data parallelism, precision, recomputation."""

import json
import os
import re
import subprocess
from types import SimpleNamespace

import pytest
import torch
from commands import command_line, run
from fairseq.modules import FairseqDropout
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from helpers import ROOT, make_batch, make_model, make_task
from processes import two_processes
from training import MODEL_FLAGS, SHARED, TRAIN_FLAGS, assert_same_model, load, train

from b2t_cli.train import main as b2t_train
from b2t_fairseq.models.transformer import B2TTransformerModel
from b2t_fairseq.sharing import same_layers


def sharing_flags(strategy):
    if strategy == "none":
        return []
    return ["--layer-sharing", strategy, "--encoder-unique-layers", "2", "--decoder-unique-layers", "2"]


# a scheme with state of its own is here with each strategy; all pairs are saved and loaded in test_schemes.py
@pytest.mark.parametrize(
    ("scheme", "strategy"), [("post_ln", "none"), ("admin", "sequence"), ("dlcl", "cycle"), ("b2t", "cycle_rev")]
)
def test_resumed_run_equals_uninterrupted_run(data, tmp_path, scheme, strategy):
    """Two epochs in one go and one epoch twice: the same weights and optimizer state, bit by bit."""
    flags = ["--residual", scheme, *sharing_flags(strategy), "--encoder-word-dropout", "0.1"]
    whole = train(data, tmp_path / "whole", *flags, "--max-epoch", "2")
    train(data, tmp_path / "parts", *flags, "--max-epoch", "1")
    resumed = train(data, tmp_path / "parts", *flags, "--max-epoch", "2")
    assert_same_model(whole, resumed)
    states = [checkpoint["last_optimizer_state"]["state"] for checkpoint in (whole, resumed)]
    for index, state in states[0].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(states[1][index][k])) for k, v in state.items())
    model = whole["model"]
    layers = [
        {
            k.split(".", 3)[3]: v
            for k, v in model.items()
            if k.startswith(f"encoder.layers.{i}.") and "residual" not in k
        }
        for i in range(4)
    ]
    expected = {
        "none": [0, 1, 2, 3],
        "sequence": [0, 0, 1, 1],
        "cycle": [0, 1, 0, 1],
        "cycle_rev": [0, 1, 1, 0],
    }
    assert same_layers(layers) == expected[strategy]
    # one optimizer state per parameter set
    buffers = ("version", "profiled", "_float_tensor")
    tied = len({tensor.data_ptr() for name, tensor in model.items() if not name.endswith(buffers)})
    assert len(states[0]) == tied


def test_training_learns(data, tmp_path):
    """Loss far below that of guessing, in the real loop, with everything at once."""
    flags = ["--max-epoch", "12", "--dropout", "0", "--depth-scaled-init", "--max-tokens", "60", *SHARED]
    state = train(data, tmp_path, *flags, "--no-epoch-checkpoints")
    # guessing among the 28 symbols of the dictionary costs log2(28) = 4.8 bits
    assert state["extra_state"]["best"] < 4.0


@pytest.mark.parametrize("flags", [[], SHARED], ids=["unshared", "shared"])
def test_update_freq_equals_one_large_batch(data, tmp_path, flags):
    """Four batches of gradients added up are one batch four times as large (no dropout)."""
    flags = [*flags, "--max-epoch", "1", "--dropout", "0", "--max-tokens", "100000"]
    batch = train(data, tmp_path / "batch", *flags, "--batch-size", "120")
    parts = train(data, tmp_path / "parts", *flags, "--batch-size", "30", "--update-freq", "4")
    assert batch["optimizer_history"][-1]["num_updates"] == parts["optimizer_history"][-1]["num_updates"] == 1
    assert_same_model(batch, parts, tolerance=1e-5)


@pytest.mark.parametrize("flags", [[], SHARED], ids=["unshared", "shared"])
@pytest.mark.parametrize("recompute", ["--checkpoint-activations", "--offload-activations"])
def test_recomputed_activations_in_training(data, tmp_path, flags, recompute):
    plain = train(data, tmp_path / "plain", *flags, "--max-update", "4")
    again = train(data, tmp_path / "again", *flags, "--max-update", "4", recompute)
    # the gradient of a key's bias is zero but for rounding, which Adam blows up
    assert_same_model(plain, again, tolerance=1e-4)


@pytest.mark.parametrize("flags", [[], SHARED], ids=["unshared", "shared"])
def test_bf16(data, tmp_path, flags):
    """b2t train --bf16 learns as float32 does, to its precision, and tied layers stay equal."""
    flags = [*flags, "--max-epoch", "3", "--dropout", "0", "--clip-norm", "1.0"]
    full = train(data, tmp_path / "full", *flags, command=b2t_train)
    half = train(data, tmp_path / "half", *flags, "--bf16", command=b2t_train)
    assert full["optimizer_history"][-1]["num_updates"] == half["optimizer_history"][-1]["num_updates"]
    assert half["extra_state"]["val_loss"] == pytest.approx(full["extra_state"]["val_loss"], rel=0.05)
    assert not torch.equal(half["model"]["encoder.layers.0.fc1.weight"], full["model"]["encoder.layers.0.fc1.weight"])
    for name, tensor in half["model"].items():
        # fairseq writes half precision as float32
        assert torch.equal(tensor, tensor.bfloat16().float()), name
        if flags[0] == SHARED[0] and name.startswith("encoder.layers.0."):
            assert torch.equal(tensor, half["model"][name.replace("layers.0", "layers.3")])
    # tied parameters are written once all the same
    storages = [len({t.data_ptr() for t in state["model"].values() if t.numel()}) for state in (full, half)]
    assert storages[0] == storages[1]


def losses(lines: list[str]) -> list[float]:
    """Return the training losses that fairseq logged, one per update."""
    found = [line[line.index("{") :] for line in lines if '"train_wall"' in line and '"update"' in line]
    return [float(json.loads(entry)["loss"]) for entry in found]


@pytest.mark.parametrize(
    "flags",
    [
        [*SHARED, "--ddp-backend", "legacy_ddp", "--criterion", "label_smoothed_cross_entropy_fused"],
        [*SHARED, "--ddp-backend", "legacy_ddp", "--checkpoint-activations"],
    ],
    ids=["shared-fused", "shared-recomputed"],
)
def test_two_processes_equal_one(data, tmp_path, flags, caplog):
    """Half of each batch on either process: the losses and the weights of one process; and the run resumes."""
    flags = [*flags, "--dropout", "0", "--max-tokens", "100000"]
    caplog.set_level("INFO")
    alone = ["--batch-size", "30", "--update-freq", "2", "--max-epoch", "4"]
    one = train(data, tmp_path / "one", *flags, *alone)
    single = losses(caplog.messages)
    assert len(single) == 8
    two_processes(data, tmp_path / "two", *flags, "--batch-size", "30", "--max-epoch", "2")
    resumed = two_processes(data, tmp_path / "two", *flags, "--batch-size", "30", "--max-epoch", "4")
    assert losses(resumed) == pytest.approx(single[4:], abs=2e-3)
    assert_same_model(one, load(tmp_path / "two/checkpoint_last.pt"), tolerance=1e-4)


def test_killed_run_ends_with_the_same_weights(data, tmp_path):
    """SIGKILL between two checkpoints, then the same command again."""
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


def test_stock_checkpoint_goes_on_as_post_ln(data, tmp_path):
    """Parameter names are fairseq's: a run of fairseq's own transformer is taken over."""
    stock = train(data, tmp_path / "stock", "--arch", "transformer_tiny", "--max-epoch", "1")
    flags = ["--residual", "post_ln", "--kernels", "fairseq"]
    flags += ["--restore-file", str(tmp_path / "stock/checkpoint_last.pt")]
    ours = train(data, tmp_path / "ours", *flags, "--max-epoch", "2")
    longer = train(data, tmp_path / "stock", "--arch", "transformer_tiny", "--max-epoch", "2")
    assert list(stock["model"]) == list(ours["model"])
    assert_same_model(ours, longer)


def test_hydra_trains_the_same_model(data, tmp_path):
    """fairseq-hydra-train with the YAML file of configs/: the same weights as the command line."""
    flags = ["--residual", "b2t", *SHARED, "--max-update", "3"]
    by_flags = train(data, tmp_path / "flags", *flags)
    run(
        "fairseq-hydra-train",
        *("--config-dir", str(ROOT / "configs/hydra"), "--config-name", "b2t_cycle_rev"),
        *(f"common.user_dir={ROOT / 'b2t_fairseq'}", "common.cpu=true", f"task.data={data}", "common.seed=7"),
        *(f"checkpoint.save_dir={tmp_path / 'hydra'}", f"hydra.run.dir={tmp_path}", "dataset.max_tokens=160"),
        *("dataset.required_batch_size_multiple=1", "dataset.num_workers=0", "optimization.max_update=3"),
        *(
            "+model.encoder_embed_dim=16",
            "+model.encoder_ffn_embed_dim=32",
            "+model.encoder_attention_heads=2",
        ),
        *("+model.decoder_attention_heads=2", "model.encoder_layers=4", "model.decoder_layers=4"),
        *("model.encoder_unique_layers=2", "model.decoder_unique_layers=2", "model.dropout=0.1"),
        *("optimization.lr=[0.01]", "optimization.clip_norm=0.1", "optimization.update_freq=[1]"),
        *("lr_scheduler.warmup_updates=4", "lr_scheduler.warmup_init_lr=-1"),
    )
    assert_same_model(by_flags, load(tmp_path / "hydra/checkpoint_last.pt"))


@pytest.mark.parametrize("wrapper", ["plugin", "fairseq"])
def test_default_data_parallelism_with_recomputed_tied_layers(wrapper, tmp_path):
    """DistributedDataParallel accepts them; with fairseq's own wrapper it does not, which is why we have ours."""
    model = make_model(layer_sharing="cycle", encoder_unique_layers=3, decoder_unique_layers=3)
    for layer in (*model.encoder.layer_list(), *model.decoder.layer_list()):
        if wrapper == "fairseq":
            checkpoint_wrapper(layer)
        else:
            model.encoder.wrap_layer(SimpleNamespace(**{**vars(model.cfg), "checkpoint_activations": True}), layer)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        loss = parallel(**make_batch()["net_input"])[0].square().sum()
        if wrapper == "fairseq":
            with pytest.raises(RuntimeError, match="ready only once"):
                loss.backward()
        else:
            loss.backward()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "flags",
    [
        ["--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 10}', "--best-checkpoint-metric", "bleu"],
        ["--store-ema", "--ema-fp32"],
        ["--quant-noise-pq", "0.1", "--quant-noise-pq-block-size", "4"],
        ["--encoder-layerdrop", "0.2", "--decoder-layerdrop", "0.2"],
    ],
    ids=lambda flags: flags[0],
)
def test_rest_of_fairseq_with_shared_layers(data, tmp_path, flags):
    """Trains, writes a checkpoint that loads with weights_only, goes on from it, and stays tied."""
    train(data, tmp_path, *SHARED, *flags, "--max-update", "2")
    state = train(data, tmp_path, *SHARED, *flags, "--max-update", "7")
    assert state["optimizer_history"][-1]["num_updates"] == 7
    for name, tensor in state["model"].items():
        if name.startswith("encoder.layers.0.") and "float_tensor" not in name:
            assert torch.equal(tensor, state["model"][name.replace("layers.0", "layers.3")]), name


@pytest.mark.parametrize("flags", [[], ["--ema-fp32"]], ids=["plain", "fp32"])
def test_moving_average_moves_tied_parameters_once(data, tmp_path, flags):
    """After one update from known weights: ema = decay * before + (1 - decay) * after, for every tensor."""
    ema = ["--store-ema", "--ema-decay", "0.9", *flags]
    start = train(data, tmp_path, *SHARED, *ema, "--max-update", "1")
    state = train(data, tmp_path, *SHARED, *ema, "--max-update", "2")
    before, after = start["extra_state"]["ema"], state["extra_state"]["ema"]
    for name, tensor in state["model"].items():
        if tensor.numel() > 1:
            expected = 0.9 * before[name] + 0.1 * tensor
            assert (after[name] - expected).abs().max() < 1e-6, name


def test_supervised_alignment_gets_attention_in_training():
    for load_alignments in (False, True):
        task = make_task()
        task.cfg = SimpleNamespace(load_alignments=load_alignments)
        _, extra = make_model(task=task).train()(**make_batch()["net_input"])
        assert (extra["attn"][0] is not None) == load_alignments


def test_fine_tuning_a_pruned_model(data, tmp_path):
    """Its checkpoint says what it is, and loads again: layers 0 and 2 of a shared encoder, a whole decoder."""
    train(data, tmp_path / "whole", *SHARED, "--max-update", "2")
    prune = ["--encoder-layers-to-keep", "0,2", "--decoder-layers-to-keep", "0,1,2,3", *SHARED]
    restore = ["--restore-file", str(tmp_path / "whole/checkpoint_last.pt"), "--reset-optimizer"]
    pruned = train(data, tmp_path / "pruned", *prune, *restore, "--max-update", "4")
    assert not any(name.startswith("encoder.layers.2") for name in pruned["model"])
    again = train(data, tmp_path / "pruned", *prune, "--max-update", "6", command=b2t_train)
    assert again["optimizer_history"][-1]["num_updates"] == 6
    for name in ("whole", "pruned"):
        overrides = {"encoder_layers_to_keep": "0,2", "decoder_layers_to_keep": "0,1,2,3"} if name == "whole" else {}
        model = B2TTransformerModel.from_pretrained(
            str(tmp_path / name), "checkpoint_last.pt", data_name_or_path=data, **overrides
        ).models[0]
        assert model.encoder.indices == [0, 1]
        assert [layer.residual.position.index for layer in model.encoder.layers] == [0, 2]
        assert model.encoder.layers[0].residual.position.num_layers == 4
    with pytest.raises(RuntimeError, match="trained with --residual b2t"):
        B2TTransformerModel.from_pretrained(
            str(tmp_path / "whole"),
            "checkpoint_last.pt",
            data_name_or_path=data,
            residual="post_ln",
            **{"encoder_layers_to_keep": "0,2", "decoder_layers_to_keep": "0,1,2,3"},
        )


def test_dropout_modules_keep_their_names():
    """--retain-dropout-modules finds them by the names of fairseq's own classes."""
    names = [
        {module.module_name for module in make_model(arch, dropout=0.1).modules() if isinstance(module, FairseqDropout)}
        for arch in ("transformer", "b2t_transformer")
    ]
    assert names[0] == names[1]


def test_adaptive_softmax(data, tmp_path):
    separate = [flag for flag in MODEL_FLAGS if flag != "--share-all-embeddings"]
    start = TRAIN_FLAGS.index("--criterion")
    training = [*TRAIN_FLAGS[:start], "--criterion", "adaptive_loss", *TRAIN_FLAGS[start + 4 :]]
    flags = ["--adaptive-softmax-cutoff", "8,20", "--max-update", "3", "--save-dir", str(tmp_path)]
    flags += ["--ddp-backend", "legacy_ddp"]  # what fairseq's adaptive_loss asks for
    b2t_train([data, *separate, *training, *SHARED, *flags])
    assert any("adaptive_softmax" in name for name in load(tmp_path / "checkpoint_last.pt")["model"])


def test_float16_on_the_cpu():
    """fairseq trains in fp16 on GPUs only; the model itself runs in it, forward and backward, and stays tied."""
    flags = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 3, "decoder_unique_layers": 3}
    full, half = make_model(**flags), make_model(**flags).half()
    assert len(list(half.parameters())) == len(list(full.parameters()))
    outputs = [model(**make_batch()["net_input"])[0] for model in (full, half)]
    assert (outputs[0] - outputs[1]).abs().max() < 0.02
    outputs[1].float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in half.parameters())

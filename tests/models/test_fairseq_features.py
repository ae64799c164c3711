"""Other features of fairseq's training work with shared layers too."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.modules import FairseqDropout
from helpers import make_batch, make_model, make_task
from training import MODEL_FLAGS, SHARED, TRAIN_FLAGS_BUT_CRITERION, train

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.models.transformer import B2TTransformerModel


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
def test_a_run_with_a_feature_goes_on_and_stays_tied(data, tmp_path, flags):
    """Its checkpoint loads with weights_only."""
    train(data, tmp_path, *SHARED, *flags, "--max-update", "2")
    state = train(data, tmp_path, *SHARED, *flags, "--max-update", "7")
    assert state["optimizer_history"][-1]["num_updates"] == 7
    for name, tensor in state["model"].items():
        if name.startswith("encoder.layers.0.") and "float_tensor" not in name:
            assert torch.equal(tensor, state["model"][name.replace("layers.0", "layers.3")]), name


@pytest.mark.parametrize("flags", [[], ["--ema-fp32"]], ids=["plain", "fp32"])
def test_moving_average_moves_tied_parameters_once(data, tmp_path, flags):
    """After one more update it is decay * before + (1 - decay) * weights, for every tensor."""
    ema = ["--store-ema", "--ema-decay", "0.9", *flags]
    start = train(data, tmp_path, *SHARED, *ema, "--max-update", "1")
    state = train(data, tmp_path, *SHARED, *ema, "--max-update", "2")
    before, after = start["extra_state"]["ema"], state["extra_state"]["ema"]
    for name, tensor in state["model"].items():
        if tensor.numel() > 1:
            expected = 0.9 * before[name] + 0.1 * tensor
            assert (after[name] - expected).abs().max() < 1e-6, name


def test_a_training_that_explodes_ends_with_fairseqs_error(data, tmp_path, caplog):
    """Not with PyTorch's StopIteration while fairseq looks for the layer with the first NaN."""
    with pytest.raises(FloatingPointError, match="gradients are Nan/Inf"):
        train(data, tmp_path, "--lr", "1e35", "--max-update", "5")
    assert "detected in output of" in caplog.text


def test_attention_weights_are_there_in_training_for_supervised_alignment():
    """Without --load-alignments they are left out, since computing them takes time."""
    for load_alignments in (False, True):
        task = make_task()
        task.cfg = SimpleNamespace(load_alignments=load_alignments)
        _, extra = make_model(task=task).train()(**make_batch()["net_input"])
        assert (extra["attn"][0] is not None) == load_alignments


def test_a_pruned_model_can_be_fine_tuned(data, tmp_path):
    """Layers 0 and 2 of a shared encoder are kept; the checkpoint says so, continues, and loads again."""
    train(data, tmp_path / "whole", *SHARED, "--max-update", "2")
    prune = ["--encoder-layers-to-keep", "0,2", "--decoder-layers-to-keep", "0,1,2,3", *SHARED]
    restore = ["--restore-file", str(tmp_path / "whole/checkpoint_last.pt"), "--reset-optimizer"]
    pruned = train(data, tmp_path / "pruned", *prune, *restore, "--max-update", "4")
    assert not any(name.startswith("encoder.layers.2") for name in pruned["model"])
    again = train(data, tmp_path / "pruned", *prune, "--max-update", "6", command=b2t_train)
    assert again["optimizer_history"][-1]["num_updates"] == 6
    kept = {"encoder_layers_to_keep": "0,2", "decoder_layers_to_keep": "0,1,2,3"}
    for name, overrides in (("whole", kept), ("pruned", {})):
        model = B2TTransformerModel.from_pretrained(
            str(tmp_path / name), "checkpoint_last.pt", data_name_or_path=data, **overrides
        ).models[0]
        assert model.encoder.indices == [0, 1]
        assert [layer.residual.position.index for layer in model.encoder.layers] == [0, 2]
        assert model.encoder.layers[0].residual.position.num_layers == 4
    with pytest.raises(InputError, match="trained with --residual b2t"):
        B2TTransformerModel.from_pretrained(
            str(tmp_path / "whole"),
            "checkpoint_last.pt",
            data_name_or_path=data,
            residual="post_ln",
            **kept,
        )


def test_dropout_modules_keep_their_names():
    """fairseq finds them for --retain-dropout-modules by the names of its own classes."""
    names = [
        {module.module_name for module in make_model(arch, dropout=0.1).modules() if isinstance(module, FairseqDropout)}
        for arch in ("transformer", "b2t_transformer")
    ]
    assert names[0] == names[1]


def test_a_model_with_an_adaptive_softmax_trains(data, tmp_path):
    separate = [flag for flag in MODEL_FLAGS if flag != "--share-all-embeddings"]
    basis = [*separate, *TRAIN_FLAGS_BUT_CRITERION, "--criterion", "adaptive_loss"]
    # fairseq's adaptive_loss asks for this kind of data parallelism.
    flags = ["--adaptive-softmax-cutoff", "8,20", "--max-update", "3", "--ddp-backend", "legacy_ddp"]
    state = train(data, tmp_path, *SHARED, *flags, command=b2t_train, basis=basis)
    assert any("adaptive_softmax" in name for name in state["model"])

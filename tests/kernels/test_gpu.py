"""What a GPU is asked to do in an update, counted on a simulated one: kernels, and places where the host waits."""

import pytest
import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from operations import Operations
from torch.utils._python_dispatch import _disable_current_modes
from training import MODEL_FLAGS, TRAIN_FLAGS, assert_same_run, continue_elsewhere, load, train

from b2t_cli.train import main as b2t_train
from b2t_fairseq.kernels import half_precision
from b2t_fairseq.upstream import one_wait, patches, patching
from benchmarks.trainers import build_trainer, quiet

FLAGS = ["--arch", "b2t_transformer_tiny", "--max-tokens", "160", "--required-batch-size-multiple", "1"]
FLAGS += ["--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32", "--dropout", "0.1"]
FLAGS += ["--criterion", "label_smoothed_cross_entropy_fused", "--optimizer", "adam_fused", "--report-accuracy"]


def trained(data, save_dir, *flags):
    """Return a trainer on the GPU after two updates, and a batch for the next one."""
    trainer = build_trainer(data, [*FLAGS, "--save-dir", str(save_dir), *flags], "cuda")
    batches = trainer.get_train_iterator(epoch=1).next_epoch_itr(shuffle=False)
    trainer.begin_epoch(1)
    for _ in range(2):
        trainer.train_step([next(batches)])
    return trainer, next(batches)


def optimizer_alone(data, save_dir, layers, *flags):
    """Return calls and kernels from a backward pass to the next forward pass, and the number of parameters."""
    with quiet():
        stacks = ["--encoder-layers", str(layers), "--decoder-layers", str(layers)]
        trainer, _ = trained(data, save_dir, *stacks, *flags)
    optimizer = trainer.optimizer
    optimizer._needs_sync = True
    with Operations("cuda") as counted:
        optimizer.multiply_grads(0.5)
        optimizer.clip_grad_norm(0.1)
        optimizer.step()
        optimizer.zero_grad()
    return counted.calls, counted.kernels.total(), len(list(trainer.model.parameters()))


@pytest.mark.parametrize(
    "precision", [["--bf16"], ["--fp16"], ["--bf16", "--memory-efficient-bf16"]], ids=["bf16", "fp16", "no masters"]
)
def test_the_optimizer_makes_as_many_calls_for_any_depth(on_gpu, data, tmp_path, precision):
    """A call is for the list of all parameters, so that a deep model needs few kernels; fairseq: four a parameter."""
    shallow, deep = (on_gpu(optimizer_alone, data, tmp_path, layers, *precision) for layers in (1, 4))
    assert shallow[0] == deep[0]
    assert shallow[0].total() <= 20
    calls, kernels, parameters = deep
    assert parameters > 160
    assert kernels <= calls.total() + parameters / 8


def as_fairseq_has_it():
    """Take back what makes an update's kernels and waits few; fairseq's own trainer and optimizer remain."""
    for row in patches.PATCHES:
        if isinstance(row, patching.Patch) and row.replacement.__module__ in (
            half_precision.__name__,
            one_wait.__name__,
        ):
            setattr(row.resolve(), row.attribute, patching.ORIGINALS[row.target])


def update(data, save_dir, is_fairseqs, *flags):
    """Make three updates; return where the host waits in the last one, all weights, what was logged, and kernels."""
    if is_fairseqs:
        as_fairseq_has_it()
    with quiet():
        trainer, batch = trained(data, save_dir, *flags)
        with Operations("cuda") as counted:
            trainer.train_step([batch, batch])
    weights = [parameter.flatten().tolist() for parameter in trainer.model.parameters()]
    meters = metrics.get_meters("train")
    logged = {name: float(meters[name].avg) for name in ("loss", "nll_loss", "gnorm", "clip", "wpb", "n_correct")}
    return counted.waits, weights, logged, counted.kernels


@pytest.mark.parametrize(
    "precision",
    [["--bf16"], ["--fp16"], ["--fp16", "--memory-efficient-fp16"], []],
    ids=["bf16", "fp16", "no masters", "float32"],
)
def test_the_host_waits_once_in_an_update(on_gpu, data, tmp_path, precision):
    """Weights and what is logged are fairseq's bit by bit, also with layers that get no gradient in an update."""
    flags = [*precision, "--encoder-layerdrop", "0.5", "--encoder-layers", "3", "--decoder-layers", "1"]
    ours, fairseqs = (on_gpu(update, data, tmp_path, is_fairseqs, *flags) for is_fairseqs in (False, True))
    assert len(ours[0]) == 1, ours[0]
    assert len(fairseqs[0]) > 3
    assert "aten::bernoulli_" not in ours[3], "dropout that overwrites takes three kernels for one"
    assert ours[1:3] == fairseqs[1:3]


def sum_through_host(tensor, group, op="sum"):
    """Sum a tensor over processes as NCCL does, whose sums let no host wait; gloo has none for a GPU."""
    with _disable_current_modes():
        on_host = tensor.cpu()
        torch.distributed.all_reduce(on_host, group=group)
        tensor.copy_(on_host)


def through_host(collective):
    """Return a function of ``torch.distributed`` whose tensor may be on a GPU, of which gloo knows nothing."""

    def wrapper(tensor, *arguments, **keywords):
        on_host = tensor.cpu()
        collective(on_host, *arguments, **keywords)
        tensor.copy_(on_host)

    return wrapper


def train_one_of_two(rank, rendezvous, data, save_dir, *flags):
    """Train by ``b2t train`` as one of two processes."""
    for name in ("all_reduce", "broadcast"):
        setattr(torch.distributed, name, through_host(getattr(torch.distributed, name)))
    distributed = ["--distributed-no-spawn", "--distributed-backend", "gloo", "--distributed-world-size", "2"]
    distributed += ["--distributed-init-method", f"file://{rendezvous}", "--distributed-rank", str(rank)]
    basis = [flag for flag in MODEL_FLAGS + TRAIN_FLAGS if flag != "--cpu"]
    train(data, save_dir, *flags, *distributed, command=b2t_train, basis=basis)


def update_of_one_of_two(rank, rendezvous, data, save_dir, is_fairseqs, *flags):
    """Make the updates of one of two processes."""
    distributed_utils.all_reduce = sum_through_host
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    distributed = ["--distributed-world-size", "2", "--distributed-rank", str(rank), "--ddp-backend", "legacy_ddp"]
    return update(data, save_dir, is_fairseqs, *distributed, *flags)


@pytest.mark.parametrize("precision", [["--bf16"], ["--fp16"]], ids=["bf16", "fp16"])
def test_each_of_two_hosts_waits_once_in_an_update(two_gpus, data, tmp_path, precision):
    """Weights and what is logged are the same in both."""
    ours, other = two_gpus(update_of_one_of_two, tmp_path / "ours", data, tmp_path, False, *precision)
    assert len(ours[0]) == len(other[0]) == 1, ours[0]
    assert ours[1:3] == other[1:3]


def test_two_processes_log_and_learn_as_with_fairseq(two_gpus, data, tmp_path):
    """The sample size is divided by on the GPU, which rounds elsewhere; fairseq waits more than twenty times."""
    ours, fairseqs = (
        two_gpus(update_of_one_of_two, tmp_path / f"{is_fairseqs}", data, tmp_path, is_fairseqs)[0]
        for is_fairseqs in (False, True)
    )
    assert len(ours[0]) == 1, ours[0]
    assert len(fairseqs[0]) > 20
    assert ours[2] == pytest.approx(fairseqs[2], rel=1e-6)
    for our_weights, weights in zip(ours[1], fairseqs[1], strict=True):
        assert our_weights == pytest.approx(weights, abs=1e-6)


@pytest.mark.slow
def test_two_processes_with_amp_resume_bit_by_bit(two_gpus, data, tmp_path):
    """The loss scale, which grows every second update, and the float32 weights continue as in the uninterrupted run."""
    flags = ["--amp", "--amp-scale-window", "2", "--ddp-backend", "legacy_ddp", "--disable-validation"]
    flags += ["--max-tokens", "80", "--max-update"]
    train_whole = [tmp_path / "first", data, tmp_path / "whole", *flags, "6", "--save-interval-updates", "3"]
    two_gpus(train_one_of_two, *train_whole)
    continue_elsewhere(tmp_path)
    two_gpus(train_one_of_two, tmp_path / "second", data, tmp_path / "parts", *flags, "6")
    whole, resumed = (load(tmp_path / run / "checkpoint_last.pt") for run in ("whole", "parts"))
    assert whole["extra_state"]["b2t_loss_scaling"]["scale"] == 128 * 2**3
    assert_same_run(whole, resumed)

"""What a GPU is asked to do, counted on a simulated one: kernels of an update, and waits of the host."""

import pytest
import torch
from fairseq import utils
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from operations import Operations
from torch.utils._python_dispatch import _disable_current_modes

from b2t_fairseq.upstream import patches
from benchmarks.trainers import build_trainer, quiet

FLAGS = ["--arch", "b2t_transformer_tiny", "--max-tokens", "160", "--required-batch-size-multiple", "1"]
FLAGS += ["--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32", "--dropout", "0.1"]
OURS = ["--criterion", "label_smoothed_cross_entropy_fused", "--optimizer", "adam_fused"]


def trained(data, save_dir, *flags, updates=2):
    """Return a trainer on the GPU after some updates, and a batch."""
    with quiet():
        trainer = build_trainer(data, [*FLAGS, *OURS, "--save-dir", str(save_dir), *flags], "cuda")
        batches = trainer.get_train_iterator(epoch=1).next_epoch_itr(shuffle=False)
        trainer.begin_epoch(1)
        for _ in range(updates):
            trainer.train_step([next(batches)])
    return trainer, next(batches)


def calls_and_kernels_of_the_optimizer(data, save_dir, layers, *flags):
    """Return what the GPU is asked to do from a backward pass to the next forward pass, and how many parameters are."""
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
    "precision",
    [["--bf16"], ["--fp16"], ["--fp16", "--fp16-no-flatten-grads"], ["--bf16", "--memory-efficient-bf16"]],
    ids=["bf16", "fp16", "fp16 in parts", "no masters"],
)
def test_the_optimizer_makes_as_many_calls_for_any_depth(on_gpu, data, tmp_path, precision):
    """A call is for the list of all parameters, so that a deep model needs few kernels; fairseq: four a parameter."""
    shallow, deep = (
        on_gpu(calls_and_kernels_of_the_optimizer, data, tmp_path, layers, *precision) for layers in (1, 4)
    )
    assert shallow[0] == deep[0]
    assert shallow[0].total() <= 20
    calls, kernels, parameters = deep
    assert parameters > 160
    assert kernels <= calls.total() + parameters / 8


TOGETHER = ("_sync_fp16_grads_to_fp32", "_sync_fp32_params_to_fp16", "zero_grad")


def weights_after_updates(data, save_dir, as_fairseq, *flags):
    """Return all weights of a small model after some updates, with fairseq's own copies and norms if asked for."""
    if as_fairseq:
        originals = {row.attribute: row for row in patches.PATCHES if getattr(row, "attribute", None) in TOGETHER}
        for name, row in originals.items():
            setattr(row.resolve(), name, patches.ORIGINALS[row.target])
        utils.multi_tensor_l2norm_available = False
    trainer, _ = trained(data, save_dir, *flags, updates=3)
    return [parameter.flatten().tolist() for parameter in trainer.model.parameters()]


@pytest.mark.parametrize("precision", [["--bf16"], ["--fp16"]], ids=["bf16", "fp16"])
def test_half_precision_gives_fairseqs_weights(on_gpu, data, tmp_path, precision):
    """They are equal bit by bit, also with a parameter that gets no gradient in an update."""
    flags = [*precision, "--encoder-layerdrop", "0.5", "--encoder-layers", "3", "--decoder-layers", "1"]
    ours, fairseqs = (on_gpu(weights_after_updates, data, tmp_path, as_fairseq, *flags) for as_fairseq in (False, True))
    assert ours == fairseqs


def waits_of_an_update(data, save_dir, *flags):
    """Return where the host waits for the GPU in an update of two batches that is not the first one."""
    trainer, batch = trained(data, save_dir, *flags)
    with quiet(), Operations("cuda") as counted:
        trainer.train_step([batch, batch])
    return counted.waits


@pytest.mark.parametrize(
    "flags",
    [["--bf16"], ["--fp16"], ["--memory-efficient-fp16", "--fp16"], []],
    ids=["bf16", "fp16", "no masters", "float32"],
)
def test_the_host_waits_once_in_an_update(on_gpu, data, tmp_path, flags):
    waits = on_gpu(waits_of_an_update, data, tmp_path, "--report-accuracy", *flags)
    assert len(waits) == 1, waits


def sum_through_host(tensor, *, group):
    """Sum a tensor over processes as NCCL does, whose sums let no host wait; gloo has none for a GPU."""
    with _disable_current_modes():
        on_host = tensor.cpu()
        torch.distributed.all_reduce(on_host, group=group)
        tensor.copy_(on_host)


def waits_of_one_of_two(rank, rendezvous, data, save_dir, *flags):
    """Return where one of two hosts waits in an update, and the loss and the norm of all updates so far."""
    distributed_utils.all_reduce = sum_through_host
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    distributed = ["--distributed-world-size", "2", "--distributed-rank", str(rank), "--ddp-backend", "legacy_ddp"]
    waits = waits_of_an_update(data, save_dir, *distributed, *flags)
    meters = metrics.get_meters("train")
    return waits, [float(meters[name].avg) for name in ("loss", "gnorm", "wpb")]


@pytest.mark.parametrize("flags", [["--bf16"], ["--fp16"], []], ids=["bf16", "fp16", "float32"])
def test_each_of_two_hosts_waits_once_in_an_update(two_gpus, data, tmp_path, flags):
    (waits, logged), (other_waits, other_logged) = two_gpus(
        waits_of_one_of_two, tmp_path / "rendezvous", data, tmp_path, "--report-accuracy", *flags
    )
    assert len(waits) == 1, waits
    assert len(other_waits) == 1, other_waits
    assert logged == other_logged

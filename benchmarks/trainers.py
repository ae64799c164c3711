"""fairseq's own trainer, task and batches for the benchmarks, and the flags that both sides train with."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterable, Iterator

import b2t_fairseq  # noqa: F401  (registers models, criterion and optimizer; before fairseq, so that it logs nothing)

# isort: split
from fairseq import options, tasks, utils
from fairseq.data import LanguagePairDataset, iterators
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.trainer import Trainer

from b2t_common.names import STACKS
from b2t_fairseq.kernels.compilation import CompiledInTraining

_BOTH = ["--label-smoothing", "0.1", "--adam-betas", "(0.9, 0.98)", "--clip-norm", "0.1", "--lr", "0.001"]
_BOTH += ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", "4000", "--share-all-embeddings"]
# the training process makes its batches itself, so that no other process competes with it
_BOTH += ["--num-workers", "0", "--data-buffer-size", "0"]
# without it fairseq would use all GPUs that it sees
_BOTH += ["--distributed-world-size", "1"]

# the flags with which each side trains fastest; on a CPU both train in float32
_OURS = ["--criterion", "label_smoothed_cross_entropy_fused", "--optimizer", "adam_fused"]
_OURS_ON_GPU = ["--bf16", "--compile"]
_FAIRSEQS = ["--criterion", "label_smoothed_cross_entropy", "--optimizer", "adam"]
_FAIRSEQS_ON_GPU = ["--fp16"]

# fp16 skips an update whose gradients overflow and halves its loss scale; after this many the scale is low enough
_SKIPPED_UPDATES = 30

Update = list[dict]
"""Batches, as fairseq collates them; their gradients are summed before one step of the optimizer."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what fairseq logs and what libraries warn of."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)


def our_flags(device: str) -> list[str]:
    """Return the flags with which this plugin's models train fastest."""
    return _OURS + (_OURS_ON_GPU if device == "cuda" else [])


def fairseqs_flags(device: str) -> list[str]:
    """Return the flags with which fairseq's own models train fastest."""
    return _FAIRSEQS + (_FAIRSEQS_ON_GPU if device == "cuda" else [])


def model_flags(arch: str, layers: int, width: int, dropout: float) -> list[str]:
    """Return the flags of a model whose feed-forward layers have 4 x ``width`` dimensions and whose heads have 64."""
    flags = ["--arch", arch, "--dropout", str(dropout)]
    for stack in STACKS:
        flags += [f"--{stack}-layers", str(layers), f"--{stack}-attention-heads", str(max(1, width // 64))]
        flags += [f"--{stack}-embed-dim", str(width), f"--{stack}-ffn-embed-dim", str(4 * width)]
    return flags


def build_trainer(data: str, flags: list[str], device: str) -> Trainer:
    """Build what ``fairseq-train`` builds from its flags: task, model from the seed, criterion, trainer.

    Args:
        data: folder of binarized data with a joined dictionary.
        flags: fairseq's flags beyond those that all benchmarks share.
        device: ``cpu`` or ``cuda``.
    """
    flags = [data, *_BOTH, *(["--cpu"] if device == "cpu" else []), *flags]
    args = options.parse_args_and_arch(options.get_training_parser(), flags)
    # fairseq-train takes --bf16 as a sign of a TPU
    args.tpu = False
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    utils.set_torch_seed(cfg.common.seed)
    trainer = Trainer(cfg, task, task.build_model(cfg.model), task.build_criterion(cfg.criterion))
    # otherwise fairseq would reset the peak of the memory at the end of each update
    trainer.cuda_env = None
    return trainer


def updates(trainer: Trainer, max_tokens: int, batches: int) -> Iterator[Update]:
    """Yield the updates of epoch after epoch, each of ``batches`` batches of at most ``max_tokens`` tokens."""
    trainer.cfg.dataset.max_tokens = max_tokens
    epochs = trainer.get_train_iterator(epoch=1)
    trainer.begin_epoch(1)
    while True:
        yield from iterators.GroupedIterator(epochs.next_epoch_itr(shuffle=True), batches)


def training_data(trainer: Trainer) -> LanguagePairDataset:
    """Return the sentence pairs that a trainer trains on."""
    if "train" not in trainer.task.datasets:
        trainer.task.load_dataset("train")
    return trainer.task.dataset("train")


def collate(data: LanguagePairDataset, sentences: Iterable[int]) -> dict:
    """Return the numbered sentence pairs as one batch."""
    return data.collater([data[sentence] for sentence in sentences])


def train_step(trainer: Trainer, update: Update) -> float | None:
    """Do one update with ``Trainer.train_step``.

    Returns:
        The criterion's loss in nats per target token; ``None`` if fp16 skipped the update to lower its loss scale.

    Raises:
        torch.OutOfMemoryError: the GPU's memory is full.  By default fairseq would leave the batch out instead.
        FloatingPointError: the loss is not finite.
        RuntimeError: the layers could not be compiled.  ``b2t train`` goes on without; a benchmark must not.
    """
    with metrics.aggregate() as logged:
        if trainer.train_step(update, raise_oom=True) is None:
            return None
    if CompiledInTraining.is_unavailable:
        raise RuntimeError(f"--compile: PyTorch cannot compile here: {CompiledInTraining.failure}")
    # what train_step returns is rounded to three decimals
    loss = float(logged["loss"].avg) * math.log(2)
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss of update {trainer.get_num_updates()} is {loss}")
    return loss


def train_until_updated(trainer: Trainer, update: Update) -> None:
    """Train until fp16 no longer skips the update; then the optimizer has its state, and fp16 a loss scale that fits.

    Raises:
        FloatingPointError: fp16 skips every update.
    """
    for _ in range(_SKIPPED_UPDATES):
        if train_step(trainer, update) is not None:
            return
    raise FloatingPointError(f"fp16 skipped {_SKIPPED_UPDATES} updates in a row")

"""Models that train side by side: their batches, the time of their updates, their memory."""

from __future__ import annotations

import gc
import itertools
from dataclasses import dataclass, field

import torch

from benchmarks import trainers
from benchmarks.measuring import peak_growth, seconds, standing_bytes

FIRST_TRIED = 4096  # tokens of a batch, where the search for the largest batch that fits a GPU begins
SHARE_OF_MEMORY = 0.95  # of a GPU that the search may use; the rest is for blocks that the allocator cannot reuse


@dataclass
class Run:
    """A model in training.

    Attributes:
        name: what tables call the model.
        trainer: fairseq's.
        max_tokens: tokens of a batch, padding included.
        standing_bytes: memory in use between updates without gradients: weights and the optimizer's state.
        seconds: times of the updates that were timed.
        peak_bytes: peak memory of an update, 0 before it is measured.
    """

    name: str
    trainer: trainers.Trainer
    max_tokens: int
    standing_bytes: int
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def start(name: str, data: str, flags: list[str], device: str, max_tokens: int | None) -> Run:
    """Build a trainer and let it do a first update."""
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    # fairseq needs a folder for the checkpoint that it writes if the model diverges
    trainer = trainers.build_trainer(data, [*flags, "--save-dir", data], device)
    run = Run(name, trainer, max_tokens or FIRST_TRIED, standing_bytes(trainer.model))
    trainers.train_until_updated(trainer, [longest_batch(trainer, run.max_tokens)])
    trainer.zero_grad()
    gc.collect()
    if device == "cuda":
        # in half precision the optimizer holds weights and gradients of its own, which standing_bytes does not count
        run.standing_bytes = torch.cuda.memory_allocated() - before
    return run


def longest_batch(trainer: trainers.Trainer, max_tokens: int) -> dict:
    """Return a batch of the longest sentences: their attention takes the most memory."""
    data = trainers.training_data(trainer)
    longest_first = data.ordered_indices()[::-1]
    return trainers.collate(data, longest_first[: max_tokens // data.num_tokens_vec(longest_first).max()])


def search_max_tokens(run: Run, most: int) -> None:
    """Set ``max_tokens`` of a run to the largest batch that fits into the free memory of the GPU.

    The search tries 4096 x 2^k tokens, and at last 1.5 times the largest of these that fits.

    Args:
        run: a model on the GPU.
        most: the search does not go beyond this number of tokens.
    """
    torch.cuda.set_per_process_memory_fraction(SHARE_OF_MEMORY)
    while 2 * run.max_tokens <= most and fits(run.trainer, 2 * run.max_tokens):
        run.max_tokens *= 2
    if 3 * run.max_tokens // 2 <= most and fits(run.trainer, 3 * run.max_tokens // 2):
        run.max_tokens = 3 * run.max_tokens // 2
    torch.cuda.set_per_process_memory_fraction(1.0)


def fits(trainer: trainers.Trainer, max_tokens: int) -> bool:
    """Say whether the GPU has enough memory for an update of one batch of ``max_tokens`` tokens."""
    batch = longest_batch(trainer, max_tokens)
    try:
        trainers.train_step(trainer, [batch])
        fitted = True
    except torch.OutOfMemoryError:
        fitted = False
    # the exception held references to tensors; here it is gone, and they can be freed
    trainer.zero_grad()
    gc.collect()
    torch.cuda.empty_cache()
    return fitted


def make_updates(runs: list[Run], update_tokens: int, count: int) -> list[trainers.Update]:
    """Return ``count`` updates of about ``update_tokens`` tokens, in batches of the runs' largest ``max_tokens``."""
    largest = max(run.max_tokens for run in runs)
    batches = max(1, round(update_tokens / largest))
    return list(itertools.islice(trainers.updates(runs[0].trainer, largest, batches), count))


def split(run: Run, update: trainers.Update, max_tokens: int) -> trainers.Update:
    """Return the same update in batches of at most ``max_tokens`` tokens."""
    data = trainers.training_data(run.trainer)
    multiple = run.trainer.cfg.dataset.required_batch_size_multiple
    parts = [
        data.batch_by_size(batch["id"].numpy(), max_tokens=max_tokens, required_batch_size_multiple=multiple)
        for batch in update
    ]
    return [trainers.collate(data, part) for part in itertools.chain.from_iterable(parts)]


def time_update(run: Run, update: trainers.Update, device: str) -> float:
    """Return the seconds that one update on these sentences takes."""
    batches = split(run, update, run.max_tokens)
    if device == "cuda":
        # the allocator keeps blocks that fit the other models; an update without timing replaces them by fitting ones
        torch.cuda.empty_cache()
        trainers.train_until_updated(run.trainer, batches)
        torch.cuda.synchronize()

    def step() -> None:
        if trainers.train_step(run.trainer, batches) is None:
            raise FloatingPointError("fp16 skipped an update that was to be timed")

    return seconds(step, device)


def measure_memory(run: Run, update: trainers.Update, max_tokens: int, device: str) -> None:
    """Set ``peak_bytes`` of a run to the peak memory of an update in batches of ``max_tokens`` tokens."""
    batches = split(run, update, max_tokens)
    run.trainer.zero_grad()
    growth = peak_growth(lambda: trainers.train_until_updated(run.trainer, batches), device)
    run.peak_bytes = run.standing_bytes + growth

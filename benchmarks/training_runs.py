"""Models in training side by side: their batches, the time of their updates, their memory."""

from __future__ import annotations

import gc
import itertools
from dataclasses import dataclass, field

import torch
import trainers
from measuring import peak_growth, seconds, standing_bytes

FIRST_TRIED = 4096  # tokens, by the search for the most that fit a GPU
SHARE_OF_MEMORY = 0.95  # of a GPU's that the search may use: the rest is for what the allocator cannot reuse


@dataclass
class Run:
    """A model in training."""

    name: str
    trainer: trainers.Trainer
    max_tokens: int  # of a batch, with padding
    standing: int  # bytes in use between updates but for gradients: weights, the optimizer's state
    seconds: list[float] = field(default_factory=list)  # of the updates that were timed
    peak_bytes: int = 0


def start(name: str, data: str, flags: list[str], device: str, max_tokens: int | None) -> Run:
    """Build a trainer and let it make a first update."""
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    # beside the data fairseq leaves a model that diverged
    trainer = trainers.build_trainer(data, [*flags, "--save-dir", data], device)
    run = Run(name, trainer, max_tokens or FIRST_TRIED, standing_bytes(trainer.model))
    trainers.settle(trainer, [longest_batch(trainer, run.max_tokens)])
    trainer.zero_grad()
    gc.collect()
    if device == "cuda":
        # with half precision the optimizer has weights and gradients of its own
        run.standing = torch.cuda.memory_allocated() - before
    return run


def longest_batch(trainer: trainers.Trainer, max_tokens: int) -> dict:
    """Return a batch of the longest sentences, whose attention takes the most memory."""
    data = trainers.training_data(trainer)
    longest_first = data.ordered_indices()[::-1]
    return trainers.collate(data, longest_first[: max_tokens // data.num_tokens_vec(longest_first).max()])


def search_max_tokens(run: Run, most: int) -> None:
    """Set a run's batches to the largest that fit the GPU beside all that is there: 4096 x 2^k tokens, or 1.5 times."""
    torch.cuda.set_per_process_memory_fraction(SHARE_OF_MEMORY)
    while 2 * run.max_tokens <= most and fits(run.trainer, 2 * run.max_tokens):
        run.max_tokens *= 2
    if 3 * run.max_tokens // 2 <= most and fits(run.trainer, 3 * run.max_tokens // 2):
        run.max_tokens = 3 * run.max_tokens // 2
    torch.cuda.set_per_process_memory_fraction(1.0)


def fits(trainer: trainers.Trainer, max_tokens: int) -> bool:
    """Whether the GPU has the memory for an update of one batch of so many tokens."""
    batch = longest_batch(trainer, max_tokens)
    try:
        trainers.train_step(trainer, [batch])
        fitted = True
    except torch.OutOfMemoryError:
        fitted = False
    # only now is free what the exception referred to
    trainer.zero_grad()
    gc.collect()
    torch.cuda.empty_cache()
    return fitted


def make_updates(runs: list[Run], update_tokens: int, count: int) -> list[trainers.Update]:
    """Return as many updates, in fairseq's batches for the largest ``max_tokens`` of the runs."""
    largest = max(run.max_tokens for run in runs)
    batches = max(1, round(update_tokens / largest))
    return list(itertools.islice(trainers.updates(runs[0].trainer, largest, batches), count))


def split(run: Run, update: trainers.Update, max_tokens: int) -> trainers.Update:
    """Return an update whose batches are cut into ones of at most ``max_tokens`` tokens."""
    data = trainers.training_data(run.trainer)
    multiple = run.trainer.cfg.dataset.required_batch_size_multiple
    parts = [
        data.batch_by_size(batch["id"].numpy(), max_tokens=max_tokens, required_batch_size_multiple=multiple)
        for batch in update
    ]
    return [trainers.collate(data, part) for part in itertools.chain.from_iterable(parts)]


def time_update(run: Run, update: trainers.Update, device: str) -> float:
    """Return the seconds of one update on these sentences."""
    batches = split(run, update, run.max_tokens)
    if device == "cuda":
        # the allocator is full of blocks for the other models: let it have those that this one has when alone
        torch.cuda.empty_cache()
        trainers.settle(run.trainer, batches)
        torch.cuda.synchronize()

    def step() -> None:
        if trainers.train_step(run.trainer, batches) is None:
            raise FloatingPointError("fp16 skipped an update that was to be timed")

    return seconds(step, device)


def measure_memory(run: Run, update: trainers.Update, max_tokens: int, device: str) -> None:
    """Set the bytes in use at the fullest moment of an update in batches of ``max_tokens`` tokens."""
    batches = split(run, update, max_tokens)
    run.trainer.zero_grad()
    run.peak_bytes = run.standing + peak_growth(lambda: trainers.settle(run.trainer, batches), device)

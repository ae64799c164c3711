"""Compares models on a small batch: a converted one with the release's formulas, two models with each other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_common.names import STACKS

from .flags import ReleaseFlags
from .reference import PADDING, log_probabilities

# float32 noise on a deep model; a mistake in names, order or scheme moves log-probabilities by 0.01 and more
_TOLERANCE = 1e-3


class Batch:
    """Random sentences with padding on both sides.

    Attributes:
        source: ``(batch, src_len)``.
        previous: the decoder's input, ``(batch, tgt_len)``.
        real: where it is no padding, ``(batch, tgt_len)``.
        tokens: number of target tokens.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        generator = torch.Generator().manual_seed(1)
        symbols = [tensors[f"{stack}.embed_tokens.weight"].size(0) for stack in STACKS]
        self.source, self.previous = (torch.randint(4, max(5, n), (3, 9), generator=generator) for n in symbols)
        self.source[0, :4] = self.previous[1, 5:] = PADDING
        self.previous[:, 0] = 2
        self.real = self.previous != PADDING
        self.tokens = int(self.real.sum())

    @torch.no_grad()
    def log_probabilities(self, model: nn.Module) -> Tensor:
        """Return the model's log-probabilities in float32, ``(tokens, vocabulary)``."""
        dtype = next(model.parameters()).dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has words with fairseq over its masks
            logits, _ = model.float().eval()(self.source, (self.source != PADDING).sum(dim=1), self.previous)
        model.to(dtype)
        return torch.log_softmax(logits, dim=-1)[self.real]

    @torch.no_grad()
    def release_log_probabilities(self, flags: ReleaseFlags, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the same of a release's model, by its formulas."""
        return log_probabilities(flags, weights, self.source, self.previous)[self.real]


def check(ours: Tensor, theirs: Tensor, whose: str) -> float:
    """Return the largest difference between two models' log-probabilities.

    Args:
        ours: of the converted model.
        theirs: of the model that was converted.
        whose: how to call them in a message.

    Raises:
        InputError: they differ by more than numerical noise.
    """
    difference = (ours - theirs).abs().max().item()
    if not difference <= _TOLERANCE:
        raise InputError(
            f"the converted model's log-probabilities differ from those of {whose} by {difference:.2g}, so nothing is "
            "written; has the training diverged? If not, please report it with the checkpoint's settings"
        )
    return difference

"""Compares models on a small batch: a converted model with the formulas of its release, or with another model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from b2t_common.errors import InputError

from .building import vocabulary_sizes
from .flags import ReleaseFlags
from .reference import PADDING, log_probabilities

# more than rounding in float32 causes in a deep model; a wrong name, order or scheme causes 0.01 and more
_TOLERANCE = 1e-3


class Batch:
    """Random sentences with padding on both sides.

    Attributes:
        source: ``(batch, src_len)``.
        previous: the input of the decoder, ``(batch, tgt_len)``.
        is_token: false at padding of ``previous``, ``(batch, tgt_len)``.
        tokens: number of target tokens.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        generator = torch.Generator().manual_seed(1)
        sizes = vocabulary_sizes(tensors)
        self.source, self.previous = (torch.randint(4, max(5, size), (3, 9), generator=generator) for size in sizes)
        self.source[0, :4] = self.previous[1, 5:] = PADDING
        self.previous[:, 0] = 2
        self.is_token = self.previous != PADDING
        self.tokens = int(self.is_token.sum())

    @torch.no_grad()
    def log_probabilities(self, model: nn.Module) -> Tensor:
        """Return the model's log-probabilities in float32, ``(tokens, vocabulary)``."""
        dtype = next(model.parameters()).dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the types of fairseq's masks
            logits, _ = model.float().eval()(self.source, (self.source != PADDING).sum(dim=1), self.previous)
        model.to(dtype)
        return torch.log_softmax(logits, dim=-1)[self.is_token]

    @torch.no_grad()
    def release_log_probabilities(self, flags: ReleaseFlags, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the same for the model of a release, computed by its formulas, ``(tokens, vocabulary)``."""
        return log_probabilities(flags, weights, self.source, self.previous)[self.is_token]


def check(ours: Tensor, theirs: Tensor, whose: str) -> float:
    """Return the largest difference between two models' log-probabilities.

    Args:
        ours: log-probabilities of the converted model, ``(tokens, vocabulary)``.
        theirs: those of the model that was converted, of the same shape.
        whose: what a message calls the latter.

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

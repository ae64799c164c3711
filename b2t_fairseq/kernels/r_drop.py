"""R-Drop (Liang et al. 2021, arXiv 2106.14448): two passes of a batch with different dropout should predict the same.

For a target token y, with the distributions P1 and P2 of the two passes, equations (1) to (3) of the paper are

    loss = CE(P1, y) + CE(P2, y) + alpha / 2 * (KL(P1 || P2) + KL(P2 || P1)).

As in the code of its authors, which fairseq has as ``label_smoothed_cross_entropy_with_rdrop``, CE is smoothed, the two
cross entropies are added and not averaged, the gradient goes through both arguments of each divergence, and the sum
over the tokens is divided by the number of tokens of one pass.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterionConfig
from torch import Tensor

from .linear import matmul


# fairseq reads the types of the fields, so annotations must not be postponed in this file
@dataclass
class FusedCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """The flags of fairseq's label-smoothed cross entropy, and R-Drop."""

    r_drop: float = field(
        default=0.0,
        metadata={
            "help": "weight alpha of R-Drop: a batch is computed twice, with different dropout, and both passes should "
            "predict the same"
        },
    )


class RDropSums(NamedTuple):
    """Sums over the target tokens, as float32; only the first one has a gradient.

    Attributes:
        loss: what is minimized.
        cross_entropy: with label smoothing, the mean of both passes.
        nll: without label smoothing, the mean of both passes.
        divergence: the mean of the two divergences.
        correct: correct predictions of both passes.
    """

    loss: Tensor
    cross_entropy: Tensor
    nll: Tensor
    divergence: Tensor
    correct: Tensor


class _FusedRDropLoss(torch.autograd.Function):
    """The loss and what is logged; like the fused cross entropy, it computes some tokens at a time."""

    @staticmethod
    def forward(ctx, features, weight, target, epsilon, padding, alpha, rows):
        passes = features.view(2, len(target), -1)
        sums = features.new_zeros(4, dtype=torch.float32)
        features_gradient = torch.empty_like(passes)
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(target), rows):
            part = slice(start, start + rows)
            goal = target[part].view(1, -1, 1).expand(2, -1, -1)  # (2, rows, 1)
            is_padding = goal.eq(padding)
            inside = passes[:, part].flatten(0, 1)  # (2 rows, embed_dim)
            logits = matmul(inside, weight.t())
            parts, gradient = _of_some_tokens(logits.view(2, -1, len(weight)), goal, is_padding, epsilon, alpha)
            sums += parts
            gradient = gradient.to(features.dtype).flatten(0, 1)  # (2 rows, vocabulary)
            features_gradient[:, part] = matmul(gradient, weight).view(2, -1, features.size(1))
            weight_gradient += matmul(gradient.t(), inside)
        ctx.save_for_backward(features_gradient.view_as(features), weight_gradient.to(weight.dtype))
        ctx.mark_non_differentiable(sums)
        return 2 * sums[0] + alpha * sums[2], sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, _):
        features_gradient, weight_gradient = ctx.saved_tensors
        return features_gradient * gradient, weight_gradient * gradient, None, None, None, None, None


def _of_some_tokens(logits: Tensor, goal: Tensor, is_padding: Tensor, epsilon: float, alpha: float):
    """Return sums over some tokens, ``(4,)``, and the gradient of the loss by their logits, in float32.

    The sums are cross entropy, negative log-likelihood and divergence, each the mean of two, and correct predictions.

    Args:
        logits: of both passes, ``(2, rows, vocabulary)``.
        goal: the right symbols, ``(2, rows, 1)``.
        is_padding: where they count nothing, ``(2, rows, 1)``.
        epsilon: label smoothing.
        alpha: weight of the divergences.
    """
    vocabulary = logits.size(2)
    smoothing = epsilon / (vocabulary - 1)
    confidence = 1 - epsilon - smoothing
    log_p = torch.log_softmax(logits.float(), dim=2)
    p = log_p.exp()
    nll = -log_p.gather(2, goal)
    smooth = -log_p.sum(dim=2, keepdim=True)
    # log P1 - log P2 for the first pass, log P2 - log P1 for the second one
    difference = log_p - log_p.flip(0)
    divergence = (p * difference).sum(dim=2, keepdim=True)  # KL(P1 || P2), KL(P2 || P1)
    right = log_p.argmax(dim=2, keepdim=True).eq(goal)
    each = torch.stack([confidence * nll + smoothing * smooth, nll, divergence, right.float()])  # (4, 2, rows, 1)
    sums = each.masked_fill_(is_padding, 0).sum(dim=(1, 2, 3)) * each.new_tensor([0.5, 0.5, 0.5, 1.0])
    # The derivative of KL(P1 || P2) + KL(P2 || P1) by the logits of pass 1 is
    # P1 (log P1 - log P2 - KL(P1 || P2)) + P1 - P2, and the same with 1 and 2 exchanged.
    gradient = difference.sub_(divergence).mul_(p).add_(p).sub_(p.flip(0)).mul_(alpha / 2)
    gradient.add_(p).sub_(smoothing)
    gradient.scatter_add_(2, goal, gradient.new_full((1, 1, 1), -confidence).expand_as(goal))
    return sums, gradient.masked_fill_(is_padding, 0)


def fused_r_drop_loss(
    features: Tensor, weight: Tensor, target: Tensor, epsilon: float, padding: int, alpha: float, rows: int
) -> RDropSums:
    """Return the loss of R-Drop for an output layer without bias, and what is logged.

    Args:
        features: the decoder's output, of the first pass and then of the second one, ``(2 tokens, embed_dim)``.
        weight: the output layer's weight, ``(vocabulary, embed_dim)``.
        target: the right symbols, ``(tokens,)``.
        epsilon: label smoothing.
        padding: index of the padding symbol, whose tokens count nothing.
        alpha: weight of the divergences.
        rows: for how many target tokens logits are computed at a time, of both passes.
    """
    loss, sums = _FusedRDropLoss.apply(features, weight, target, epsilon, padding, alpha, rows)
    return RDropSums(loss, *sums)

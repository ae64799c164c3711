"""``label_smoothed_cross_entropy_fused``: fairseq's label-smoothed cross entropy without the logits of a whole batch.

The output layer and the loss are computed for some tokens at a time, together with their gradient, so that a batch of
``tokens`` never takes ``tokens x vocabulary`` numbers, several times over, of memory.
"""

from __future__ import annotations

import math

import torch
from fairseq.criterions import label_smoothed_cross_entropy, register_criterion
from fairseq.logging import metrics
from torch import Tensor, nn

from b2t_common.errors import InputError

from .linear import matmul
from .packing import packing
from .r_drop import FusedCriterionConfig, fused_r_drop_loss

# How many logits are computed at a time: few enough for a CPU's caches, enough to fill a GPU.  But never so few tokens
# that it takes longer to read the output layer's weight than to compute with it.
_LOGITS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
_OTHERWISE = 2**24
_LEAST_TOKENS = 512


class _FusedLoss(torch.autograd.Function):
    """The sums of the loss, of its part without smoothing, and of correct predictions; one backward pass only."""

    @staticmethod
    def forward(ctx, features, weight, target, epsilon, padding):
        vocabulary = weight.size(0)
        smoothing = epsilon / (vocabulary - 1)
        confidence = 1 - epsilon - smoothing
        wants_gradient = features.requires_grad or weight.requires_grad
        sums = features.new_zeros(3, dtype=torch.float32)
        if wants_gradient:
            features_gradient = torch.empty_like(features)
            weight_gradient = None
        # The sum of all logits of a token, (tokens, 1), without the logits.
        totals = (features.float() * weight.sum(dim=0, dtype=torch.float32)).sum(dim=1, keepdim=True)
        rows = _tokens_at_once(features, vocabulary)
        for start in range(0, len(target), rows):
            part = slice(start, start + rows)
            goal = target[part].unsqueeze(1)
            is_padding = goal.eq(padding)
            logits = matmul(features[part], weight.t())
            # These are read before the logits are overwritten.
            largest, best = logits.max(dim=1, keepdim=True)
            at_goal = logits.gather(1, goal).float()
            probabilities = logits.float()
            torch.softmax(probabilities, dim=1, out=probabilities)
            # Of the logits' largest one the probability cannot be so small that it is rounded to zero.
            log_sum = largest.float() - probabilities.gather(1, best).log()
            nll = log_sum - at_goal
            smooth = vocabulary * log_sum - totals[part]
            parts = torch.stack([confidence * nll + smoothing * smooth, nll, best.eq(goal).float()])
            sums += parts.masked_fill_(is_padding, 0).sum(dim=(1, 2))
            if wants_gradient:
                # The gradient of the loss by the logits is softmax - smoothing, and - confidence at the target.  It
                # takes the place of the logits, in their precision.
                probabilities.scatter_add_(1, goal, probabilities.new_full((1, 1), -confidence).expand_as(goal))
                gradient = torch.sub(probabilities, smoothing, out=logits)
                # Padding has no gradient: it is left out where a row is as long as the features, not the vocabulary.
                features_gradient[part] = matmul(gradient, weight).masked_fill_(is_padding, 0)
                product = matmul(gradient.t(), features[part].masked_fill(is_padding, 0))
                # The first part needs no sum, which would read and write as many numbers as the weight has.
                weight_gradient = product.float() if weight_gradient is None else weight_gradient.add_(product)
        if wants_gradient:
            if weight_gradient is None:
                weight_gradient = torch.zeros_like(weight)
            # Not through save_for_backward, which would keep a second reference: see backward.
            ctx.gradients = features_gradient, weight_gradient.to(weight.dtype)
        ctx.mark_non_differentiable(sums)
        return sums[0].clone(), sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, _):
        if ctx.gradients is None:
            raise RuntimeError("the fused criterion computes its gradients with the loss, so they can be had once only")
        gradients, ctx.gradients = ctx.gradients, None
        # Nothing else refers to them, so they are scaled in place.  On a GPU a look at the scale makes the host wait.
        if gradient.is_cuda or gradient != 1:
            gradients = tuple(values.mul_(gradient) for values in gradients)
        return *gradients, None, None, None


def _tokens_at_once(features: Tensor, vocabulary: int) -> int:
    return max(_LEAST_TOKENS, _LOGITS_AT_ONCE.get(features.device.type, _OTHERWISE) // vocabulary)


def fused_label_smoothed_loss(
    features: Tensor, weight: Tensor, target: Tensor, epsilon: float, padding: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of fairseq's ``label_smoothed_nll_loss`` for an output layer without bias.

    Args:
        features: the decoder's output, ``(tokens, embed_dim)``.
        weight: the output layer's weight, ``(vocabulary, embed_dim)``.
        target: the right symbols, ``(tokens,)``.
        epsilon: label smoothing.
        padding: index of the padding symbol, whose tokens count nothing.

    Returns:
        Sums over all tokens, as float32: the loss, which has a gradient; the loss without smoothing; correct
        predictions.
    """
    if not torch.is_grad_enabled():
        # a parameter says that it wants a gradient in validation too
        weight = weight.detach()
    # On a GPU the host would have to wait for the number of tokens.
    packed = packing(target.eq(padding)) if features.device.type == "cpu" else None
    if packed is not None:
        features, target = packed.pack(features), target[packed.tokens]
    loss, sums = _FusedLoss.apply(features, weight, target, epsilon, padding)
    return loss, sums[1], sums[2]


# fairseq continues from a checkpoint if the class of its criterion has the same name
@register_criterion("label_smoothed_cross_entropy_fused", dataclass=FusedCriterionConfig)
class LabelSmoothedCrossEntropyCriterion(label_smoothed_cross_entropy.LabelSmoothedCrossEntropyCriterion):
    """fairseq's ``label_smoothed_cross_entropy``: same flags, same numbers, less memory.

    In fp16 the gradient of the logits is rounded before the loss scale is applied, not after: what is below 6e-8, as of
    very improbable symbols, is lost.  bf16 has float32's range.
    """

    def __init__(
        self, task, sentence_avg, label_smoothing, ignore_prefix_size=0, report_accuracy=False, r_drop=0.0
    ) -> None:
        super().__init__(task, sentence_avg, label_smoothing, ignore_prefix_size, report_accuracy)
        if not 0 <= r_drop < math.inf:
            raise InputError(f"--r-drop {r_drop}: give a positive number, or 0 for no R-Drop")
        self.r_drop = r_drop

    def forward(self, model, sample, reduce=True):
        """Return the summed loss, its sample size, and what is logged, as fairseq's criterion does.

        Args:
            model: an encoder-decoder or decoder-only model with a linear output layer.
            sample: a batch of fairseq.
            reduce: fairseq asks for sums only.

        Raises:
            InputError: the model has another output layer, or one that ``--find-unused-parameters`` cannot follow.
        """
        target, net_input = model.get_targets(sample, None), sample["net_input"]
        is_twice = self.r_drop > 0 and self.training
        if is_twice:
            net_input = _doubled(net_input)
        decoder = model.decoder
        # What is no token in both passes of R-Drop is read in neither.
        decoder.unread = target.eq(self.padding_idx).repeat(2 if is_twice else 1, 1)
        try:
            features = model(**net_input, features_only=True)[0]
        finally:
            decoder.unread = None
        if self.ignore_prefix_size > 0:
            features, target = features[:, self.ignore_prefix_size :], target[:, self.ignore_prefix_size :]
        features, weight, target = features.flatten(0, 1), _output_weight(model), target.flatten()
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        logging_output = {
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
        }
        if is_twice:
            rows = max(1, _tokens_at_once(features, len(weight)) // 2)
            sums = fused_r_drop_loss(features, weight, target, self.eps, self.padding_idx, self.r_drop, rows)
            loss, nll, correct = sums.loss, sums.nll, sums.correct
            logging_output |= {"loss": sums.cross_entropy, "rdrop_kl_loss": sums.divergence}
        else:
            loss, nll, correct = fused_label_smoothed_loss(features, weight, target, self.eps, self.padding_idx)
            logging_output["loss"] = loss.data
        logging_output["nll_loss"] = nll
        if self.report_accuracy:
            # These stay on the device: to read a number makes the host wait.
            logging_output["n_correct"] = correct
            logging_output["total"] = target.ne(self.padding_idx).sum() * (2 if is_twice else 1)
        return loss, sample_size, logging_output

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Log what fairseq's criterion logs and, with R-Drop, the mean of the two divergences, in bits for a token."""
        super().reduce_metrics(logging_outputs)
        if any("rdrop_kl_loss" in log for log in logging_outputs):
            divergence = sum(log.get("rdrop_kl_loss", 0) for log in logging_outputs)
            tokens = sum(log.get("ntokens", 0) for log in logging_outputs)
            metrics.log_scalar("rdrop_kl_loss", divergence / tokens / math.log(2), tokens, round=3)


def _doubled(net_input: dict) -> dict:
    """Return the input of a model with each sentence twice, once for each pass; ``net_input`` stays as it is."""
    return {name: torch.cat([x, x]) if isinstance(x, Tensor) else x for name, x in net_input.items()}


def _output_weight(model: nn.Module) -> Tensor:
    # fairseq's wrappers for data parallelism pass attributes on
    layer = model.decoder.output_projection
    if not isinstance(layer, nn.Linear) or layer.bias is not None:
        raise InputError(
            f"--criterion label_smoothed_cross_entropy_fused needs a linear output layer without bias, not {layer}; "
            "use label_smoothed_cross_entropy (or adaptive_loss with --adaptive-softmax-cutoff)"
        )
    untied = layer.weight is not getattr(model.decoder.embed_tokens, "weight", None)
    if untied and getattr(model, "find_unused_parameters", False):
        # it is used outside the model's forward pass, where DistributedDataParallel does not look
        raise InputError(
            "--criterion label_smoothed_cross_entropy_fused cannot work with --find-unused-parameters and an output "
            "layer of its own; share it by --share-decoder-input-output-embed, or use --ddp-backend legacy_ddp"
        )
    return layer.weight

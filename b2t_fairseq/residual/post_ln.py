"""Schemes whose norm comes after the sum, so that the residual stream passes through every norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from b2t_common.errors import InputError

from .contract import VALUES, ResidualScheme


class PostLN(ResidualScheme):
    """Post-LN, Vaswani et al. 2017 (arXiv 1706.03762), section 3.1; equation (1) and figure 2 (a) of the B2T paper."""

    name = "post_ln"
    title = "Post-LN"
    equation = "LN(x + f(x))"
    paper = "https://arxiv.org/abs/1706.03762"
    when_to_use = "up to 6 layers: the best there; deep decoders do not train"

    def connect(self, x, f, norm, layer_input, index):
        return norm(x + f(x))


class B2T(ResidualScheme):
    """Bottom-to-top connection, Takase et al. 2023 (arXiv 2206.00330), figure 2 (c).

    Post-LN whose last norm of a layer also sees the layer's input, so that one path through the layer passes no norm
    but the last.
    """

    name = "b2t"
    title = "B2T"
    equation = "LN(x + f(x)); last sub-layer: LN(layer_input + x + f(x))"
    paper = "https://arxiv.org/abs/2206.00330"
    when_to_use = "any depth; the default"

    def connect(self, x, f, norm, layer_input, index):
        return norm(x + f(x) + layer_input) if self.is_last(index) else norm(x + f(x))


class Admin(ResidualScheme):
    """Adaptive model initialization, Liu et al. 2020 (arXiv 2004.08249), section 4.

    ``omega`` is one trainable vector for each sub-layer.  Before the first update it is filled with the standard
    deviation of what the stack below it has added up, measured on the first batch (:mod:`b2t_fairseq.admin_profile`).
    """

    name = "admin"
    title = "Admin"
    equation = "LN(omega * x + f(x))"
    paper = "https://arxiv.org/abs/2004.08249"
    when_to_use = "deep Post-LN; the sharing paper's choice"
    made_anew = ("omega", "profiled")
    flags = ("admin_profile",)

    def __init__(self, position):
        super().__init__(position)
        self.omega = nn.Parameter(torch.ones(position.num_sublayers, position.embed_dim))
        # 1 once omega is measured. It is stored with the checkpoint, and it is a float because --store-ema fails on
        # other types.
        self.register_buffer("profiled", torch.tensor(0.0))

    @classmethod
    def check(cls, settings, stack):
        path = getattr(settings, "load_pretrained_encoder_from", None)
        if path:
            raise InputError(
                f"--load-pretrained-encoder-from {path} cannot work with --residual {cls.name}, which would measure "
                "the pretrained encoder's omegas anew; drop the flag, or choose another scheme"
            )

    def connect(self, x, f, norm, layer_input, index):
        return norm(self.omega[index] * x + f(x))


class DeepNorm(ResidualScheme):
    """DeepNet, Wang et al. 2022 (arXiv 2203.00555), figure 2: a weighted residual, and sub-layers that start small."""

    name = "deepnorm"
    title = "DeepNorm"
    equation = "LN(alpha x + f(x)), initialization with gain beta"
    paper = "https://arxiv.org/abs/2203.00555"
    when_to_use = "hundreds of layers"
    xavier = staticmethod(nn.init.xavier_normal_)

    def __init__(self, position):
        super().__init__(position)
        layers, other = position.num_layers, position.other_layers
        if position.num_sublayers == 3:
            self.alpha, self.beta = (3 * layers) ** 0.25, (12 * layers) ** -0.25
        elif other:
            self.alpha, self.beta = 0.81 * (layers**4 * other) ** 0.0625, 0.87 * (layers**4 * other) ** -0.0625
        else:
            self.alpha, self.beta = (2 * layers) ** 0.25, (8 * layers) ** -0.25

    def connect(self, x, f, norm, layer_input, index):
        return norm(self.alpha * x + f(x))

    def gain(self, weights):
        return self.beta if weights == VALUES else 1.0


class SpanNorm(ResidualScheme):
    """SpanNorm, 2026 (arXiv 2601.22580): one residual connection spans the layer, from its input to its last norm.

    This is B2T without the inner residual ``x`` at the last sub-layer.  That in a decoder with cross-attention both
    attentions are Post-LN and the feed-forward sub-layer has the spanning connection is our choice.  The paper also has
    an initialization, whose constant we do not know: fairseq's is kept.
    """

    name = "span_norm"
    title = "SpanNorm"
    equation = "LN(x + f(x)); last sub-layer: LN(layer_input + f(x))"
    paper = "https://arxiv.org/abs/2601.22580"
    when_to_use = "to see what the inner residual does in B2T"

    def connect(self, x, f, norm, layer_input, index):
        return norm(layer_input + f(x)) if self.is_last(index) else norm(x + f(x))


class Keel(ResidualScheme):
    """KEEL, 2026 (arXiv 2601.19895): Post-LN whose sub-layers read a normalized input, with a weighted residual.

    ``alpha`` is the number of residual connections of the stack, 2N, or 3N in a decoder with cross-attention, for which
    this is our choice.  Secondary sources disagree about ``alpha``.
    """

    name = "keel"
    title = "KEEL"
    equation = "LN(alpha x + f(LN_in(x))), alpha = number of sub-layers of the stack"
    paper = "https://arxiv.org/abs/2601.19895"
    when_to_use = "very deep Post-LN; from language models"

    def __init__(self, position):
        super().__init__(position)
        self.alpha = position.num_sublayers * position.num_layers
        self.input_norms = position.build_norms()

    def connect(self, x, f, norm, layer_input, index):
        return norm(self.alpha * x + f(self.input_norms[index](x)))


class BranchNorm(ResidualScheme):
    """BranchNorm, Liu et al. 2023 (arXiv 2305.02790): sub-layers whose weight grows from 0 to 1 in the first T updates.

    ``update`` is the number t of the present update.  It counts from 1, so that sub-layers have a gradient in every
    update, and it never falls, so that fine-tuning does not take the sub-layers away from a trained model; both are our
    choice.  It is stored with the checkpoint.  In evaluation the weight is 1.
    """

    name = "branch_norm"
    title = "BranchNorm"
    equation = "LN(x + a f(x)), a = min(1, t / T) in update t of training, 1 in evaluation"
    paper = "https://arxiv.org/abs/2305.02790"
    when_to_use = "deep Post-LN, with T about the warm-up"
    flags = ("branch_norm_updates",)
    default_updates = 4000
    update: Tensor

    def __init__(self, position):
        super().__init__(position)
        self.updates = position.settings.get("branch_norm_updates") or self.default_updates
        # A tensor, because a Python number would be a constant of the compiled code. It is a float because --store-ema
        # fails on other types.
        self.register_buffer("update", torch.tensor(1.0))

    @classmethod
    def check(cls, settings, stack):
        updates = settings.branch_norm_updates
        if updates is not None and updates < 1:
            raise InputError(f"--branch-norm-updates {updates}: give a positive number of updates, such as 4000")

    def connect(self, x, f, norm, layer_input, index):
        return norm(x + self.weight() * f(x)) if self.training else norm(x + f(x))

    def weight(self):
        """Return the weight of the sub-layers in training, a tensor with one number."""
        return (self.update / self.updates).clamp(max=1)

    def set_num_updates(self, num_updates: int) -> None:
        """Take the number of updates that were made; fairseq calls this in each step of training."""
        self.update.clamp_(min=num_updates + 1)

    def _apply(self, fn, recurse=True):
        update = self.update
        super()._apply(fn, recurse)
        # Half precision cannot hold the number of an update.
        self.update = update.to(self.update.device)
        return self

"""Schemes whose norm comes after the sum, so that the residual stream passes through every norm."""

from __future__ import annotations

import torch
from torch import nn

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

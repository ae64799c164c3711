"""Schemes whose norm comes after the sum, so that the residual stream passes through every norm."""

from __future__ import annotations

import torch
from torch import nn

from .contract import ResidualScheme


class PostLN(ResidualScheme):
    """Post-LN, Vaswani et al. 2017 (arXiv 1706.03762), section 3.1; equation (1) and figure 2 (a) of the B2T paper."""

    name = "post_ln"
    title = "Post-LN"
    equation = "LN(x + f(x))"
    paper = "https://arxiv.org/abs/1706.03762"
    choose = "up to 6 layers: the best there; deep decoders do not train"

    def connect(self, x, sublayer, norm, layer_input, is_last, index):
        return norm(x + sublayer(x))


class B2T(ResidualScheme):
    """Bottom-to-top connection, Takase et al. 2023 (arXiv 2206.00330), figure 2 (c).

    Post-LN whose last norm of a layer also sees the layer's input, so that one path through the layer passes no norm
    but the last.
    """

    name = "b2t"
    title = "B2T"
    equation = "LN(x + f(x)); last sub-layer: LN(layer_input + x + f(x))"
    paper = "https://arxiv.org/abs/2206.00330"
    choose = "any depth; the default"

    def connect(self, x, sublayer, norm, layer_input, is_last, index):
        x = x + sublayer(x)
        # in place, which costs least: nothing else needs the sum
        return norm(x.add_(layer_input) if is_last else x)


class Admin(ResidualScheme):
    """Adaptive model initialization, Liu et al. 2020 (arXiv 2004.08249), section 4.

    ``omega`` is one trainable vector for each sub-layer.  Before the first update it is filled with the standard
    deviation of what the stack below it has added up, measured on the first batch (:mod:`b2t_fairseq.profiling`).
    """

    name = "admin"
    title = "Admin"
    equation = "LN(omega * x + f(x))"
    paper = "https://arxiv.org/abs/2004.08249"
    choose = "deep Post-LN; the sharing paper's choice"
    needs_profile = True

    def __init__(self, position):
        super().__init__(position)
        self.omega = nn.Parameter(torch.ones(position.num_sublayers, position.embed_dim))
        # stored with the checkpoint: 1 once omega is measured; a real number, as moving averages fail on others
        self.register_buffer("profiled", torch.tensor(0.0))

    def connect(self, x, sublayer, norm, layer_input, is_last, index):
        return norm(self.omega[index] * x + sublayer(x))


class DeepNorm(ResidualScheme):
    """DeepNet, Wang et al. 2022 (arXiv 2203.00555), figure 2: a weighted residual, and sub-layers that start small."""

    name = "deepnorm"
    title = "DeepNorm"
    equation = "LN(alpha x + f(x)), initialization with gain beta"
    paper = "https://arxiv.org/abs/2203.00555"
    choose = "hundreds of layers"
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

    def connect(self, x, sublayer, norm, layer_input, is_last, index):
        return norm(self.alpha * x + sublayer(x))

    def gain(self):
        return self.beta

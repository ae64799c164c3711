"""Schemes without any LayerNorm in their layers."""

from __future__ import annotations

import torch
from torch import nn

from .contract import ResidualScheme


class TFixup(ResidualScheme):
    """T-Fixup, Huang et al. 2020 (ICML), section 3: no norm, no warm-up, but an initialization that bounds updates.

    Its decoder's factor is derived for three sub-layers.  A decoder without cross-attention has the encoder's two, so
    it gets the encoder's.
    """

    name = "t_fixup"
    title = "T-Fixup"
    equation = "x + f(x), initialization times 0.67 N^-1/4 (encoder), (9N)^-1/4 (decoder, embeddings)"
    paper = "https://proceedings.mlr.press/v119/huang20f.html"
    choose = "to do without norms and warm-up"
    has_norms = False
    xavier = staticmethod(nn.init.xavier_uniform_)

    def connect(self, x, sublayer, norm, layer_input, is_last, index):
        return x + sublayer(x)

    def gain(self):
        layers = self.position.num_layers
        return (9 * layers) ** -0.25 if self.position.num_sublayers == 3 else 0.67 * layers**-0.25

    @classmethod
    def embedding_gain(cls, num_layers):
        return (9 * num_layers) ** -0.25


class ReZero(ResidualScheme):
    """ReZero, Bachlechner et al. 2020 (arXiv 2003.04887), section 5: every layer starts as the identity.

    As in the paper a layer's sub-layers have one weight ``alpha`` in common.
    """

    name = "rezero"
    title = "ReZero"
    equation = "x + alpha f(x), alpha = 0 at start"
    paper = "https://arxiv.org/abs/2003.04887"
    choose = "very deep stacks without norms"
    has_norms = False

    def __init__(self, position):
        super().__init__(position)
        self.alpha = nn.Parameter(torch.zeros(()))

    def connect(self, x, sublayer, norm, layer_input, is_last, index):
        return x + self.alpha * sublayer(x)


class B2TNoLN(ResidualScheme):
    """The B2T release's norm-free variant (its ``--no-layer-norm``): two scales instead of norms.

    For L layers of width d the last sub-layer gives ``min(L^-0.15, L/12) layer_input + d^-0.2 (x + f(x))``.
    """

    name = "b2t_no_ln"
    title = "B2T without LN"
    equation = "x + f(x); last sub-layer: min(L^-0.15, L/12) layer_input + d^-0.2 (x + f(x))"
    paper = "https://arxiv.org/abs/2206.00330"
    choose = "to see what B2T does without norms"
    has_norms = False

    def __init__(self, position):
        super().__init__(position)
        layers = position.num_layers
        self.input_scale, self.output_scale = min(layers**-0.15, layers / 12), position.embed_dim**-0.2

    def connect(self, x, sublayer, norm, layer_input, is_last, index):
        x = x + sublayer(x)
        return self.input_scale * layer_input + self.output_scale * x if is_last else x

"""Schemes without any LayerNorm in their layers."""

from __future__ import annotations

import torch
from torch import nn

from b2t_common.errors import InputError

from .contract import SCORES, VALUES, ResidualScheme


class TFixup(ResidualScheme):
    """T-Fixup, Huang et al. 2020 (ICML), section 3: no norm, no warm-up, but an initialization that bounds updates.

    Its decoder's factor is derived for three sub-layers.  A decoder without cross-attention has the encoder's two, so
    it gets the encoder's.
    """

    name = "t_fixup"
    title = "T-Fixup"
    equation = "x + f(x), initialization times 0.67 N^-1/4 (encoder), (9N)^-1/4 (decoder, embeddings)"
    paper = "https://proceedings.mlr.press/v119/huang20f.html"
    when_to_use = "to do without norms and warm-up"
    has_norms = False
    xavier = staticmethod(nn.init.xavier_uniform_)

    @classmethod
    def check(cls, settings, stack):
        if getattr(settings, "character_embeddings", False):
            raise InputError(
                f"--character-embeddings cannot work with --residual {cls.name}, which scales the embedding table; "
                "drop the flag, or choose another scheme"
            )

    def connect(self, x, f, norm, layer_input, index):
        return x + f(x)

    def gain(self, weights):
        layers = self.position.num_layers
        if weights == SCORES:
            return 1.0
        if weights == VALUES and self.position.num_sublayers == 2:
            return 0.67 * layers**-0.25
        return (9 * layers) ** -0.25


class ReZero(ResidualScheme):
    """ReZero, Bachlechner et al. 2020 (arXiv 2003.04887), section 5: every layer starts as the identity.

    As in the paper a layer's sub-layers have one weight ``alpha`` in common.
    """

    name = "rezero"
    title = "ReZero"
    equation = "x + alpha f(x), alpha = 0 at start"
    paper = "https://arxiv.org/abs/2003.04887"
    when_to_use = "very deep stacks without norms"
    has_norms = False

    def __init__(self, position):
        super().__init__(position)
        self.alpha = nn.Parameter(torch.zeros(()))

    def connect(self, x, f, norm, layer_input, index):
        return x + self.alpha * f(x)


class B2TNoLN(ResidualScheme):
    """The B2T release's norm-free variant (its ``--no-layer-norm``): two scales instead of norms.

    For L layers of width d the last sub-layer gives ``min(L^-0.15, L/12) layer_input + d^-0.2 (x + f(x))``.
    """

    name = "b2t_no_ln"
    title = "B2T without LN"
    equation = "x + f(x); last sub-layer: min(L^-0.15, L/12) layer_input + d^-0.2 (x + f(x))"
    paper = "https://arxiv.org/abs/2206.00330"
    when_to_use = "to see what B2T does without norms"
    has_norms = False

    def __init__(self, position):
        super().__init__(position)
        layers = position.num_layers
        self.input_scale, self.output_scale = min(layers**-0.15, layers / 12), position.embed_dim**-0.2

    def connect(self, x, f, norm, layer_input, index):
        x = x + f(x)
        return self.input_scale * layer_input + self.output_scale * x if self.is_last(index) else x

"""Schemes whose sub-layers read a normalized input, so that the residual stream itself passes through no norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from b2t_common.errors import InputError

from .contract import VALUES, BuildNorm, LayerPosition, ResidualScheme


class PreLN(ResidualScheme):
    """Pre-LN, Wang et al. 2019 (arXiv 1906.01787); equation (2) and figure 2 (b) of the B2T paper."""

    name = "pre_ln"
    title = "Pre-LN"
    equation = "x + f(LN(x))"
    paper = "https://arxiv.org/abs/1906.01787"
    when_to_use = "whatever else does not train; costs quality"
    norm_after_stack = True

    def connect(self, x, f, norm, layer_input, index):
        return x + f(norm(x))


class LearnedCombination(nn.Module):
    """Input of a layer from the outputs of all layers below: ``sum_k w_k LN_k(y_k)``, equation (7) of the DLCL paper.

    ``y_0`` is the embedding.  The weights start as the mean.
    """

    def __init__(self, depth: int, embed_dim: int, build_norm: BuildNorm) -> None:
        super().__init__()
        self.norm = build_norm(embed_dim)
        self.weights = nn.Parameter(torch.full((depth + 1,), 1 / (depth + 1)))

    def forward(self, x: Tensor, history: list[Tensor]) -> Tensor:
        """Return the layer's input, ``(seq_len, batch, embed_dim)``.

        Args:
            x: output of the layer below, ``(seq_len, batch, embed_dim)``.
            history: the normalized outputs further below, to which that of ``x`` is added.
        """
        history.append(self.norm(x))
        return sum(weight * output for weight, output in zip(self.weights, history, strict=True))


class DLCL(PreLN):
    """Dynamic linear combination of layers, Wang et al. 2019 (arXiv 1906.01787), section 3: its Pre-LN form."""

    name = "dlcl"
    title = "DLCL"
    equation = "x + f(LN(x)); layer l reads sum of w_lk LN(y_k) over the outputs y_k of all layers below"
    when_to_use = "deep Pre-LN, where its time and memory are no matter"
    stack_input = LearnedCombination

    @classmethod
    def check(cls, settings, stack):
        for flag, value in (
            (f"--{stack}-layerdrop", getattr(settings, f"{stack}_layerdrop", 0.0)),
            (f"--{stack}-layers-to-keep", getattr(settings, f"{stack}_layers_to_keep", None)),
        ):
            if value:
                raise InputError(
                    f"{flag} {value} cannot work with --residual {cls.name}: each layer reads the outputs of all "
                    "layers below, so none can be left out; drop the flag"
                )


class LNScaling(ResidualScheme):
    """LayerNorm scaling, Sun et al. 2025 (arXiv 2502.05795): Pre-LN whose sub-layers see less the deeper they are."""

    name = "ln_scaling"
    title = "LayerNorm scaling"
    equation = "x + f(LN(x) / sqrt(l)) in layer l = 1 ... N"
    paper = "https://arxiv.org/abs/2502.05795"
    when_to_use = "deep Pre-LN whose upper layers do little; from language models"
    norm_after_stack = True

    def __init__(self, position: LayerPosition) -> None:
        super().__init__(position)
        # A Python number would become a constant of the compiled code, and --compile would compile each layer anew.
        self.register_buffer("depth", torch.tensor(position.index + 1), persistent=False)

    def connect(self, x, f, norm, layer_input, index):
        normalized = norm(x)
        return x + f(normalized / self.depth.to(normalized.dtype).sqrt())


class MixLN(ResidualScheme):
    """Mix-LN, Li et al. 2024 (arXiv 2412.13795): the first quarter of the layers Post-LN, the others Pre-LN."""

    name = "mix_ln"
    title = "Mix-LN"
    equation = "LN(x + f(x)) in the first N/4 layers, x + f(LN(x)) in the others"
    paper = "https://arxiv.org/abs/2412.13795"
    when_to_use = "between Post-LN and Pre-LN; from language models"
    norm_after_stack = True

    def __init__(self, position: LayerPosition) -> None:
        super().__init__(position)
        # With the depth itself in its place, --compile would compile each layer anew.
        self.is_post_ln = position.index < position.num_layers // 4

    @classmethod
    def check(cls, settings, stack):
        num_layers = getattr(settings, f"{stack}_layers")
        if num_layers < 4:
            raise InputError(
                f"--{stack}-layers {num_layers}: --residual {cls.name} differs from other schemes from 4 layers on; "
                "give more layers or another scheme"
            )

    def connect(self, x, f, norm, layer_input, index):
        return norm(x + f(x)) if self.is_post_ln else x + f(norm(x))


class SandwichLN(PreLN):
    """Sandwich-LN, Ding et al. 2021 (CogView, arXiv 2105.13290): Pre-LN that also bounds what is added."""

    name = "sandwich_ln"
    title = "Sandwich-LN"
    equation = "x + LN_out(f(LN(x)))"
    paper = "https://arxiv.org/abs/2105.13290"
    when_to_use = "Pre-LN in half precision, where sub-layers give large numbers"

    def __init__(self, position: LayerPosition) -> None:
        super().__init__(position)
        self.output_norms = position.build_norms()

    def connect(self, x, f, norm, layer_input, index):
        return x + self.output_norms[index](f(norm(x)))


class PeriLN(SandwichLN):
    """Peri-LN, Kim et al. 2025 (arXiv 2502.02730): Sandwich-LN with a norm of the embedding."""

    name = "peri_ln"
    title = "Peri-LN"
    equation = "x + LN_out(f(LN(x))); one LN of the embedding"
    paper = "https://arxiv.org/abs/2502.02730"
    when_to_use = "Pre-LN whose activations must not grow; from language models"
    norm_of_embedding = True


class SubLN(PreLN):
    """Sub-LN, Wang et al. 2022 (Magneto, arXiv 2210.06423): Pre-LN with norms inside the sub-layers.

    One more norm is on the heads of self-attention before the output projection, and one on the hidden state of the
    feed-forward sub-layer before its second linear map, as in the authors' torchscale.  The initialization is Xavier's
    with a gain that depends on the depths N of the encoder and M of the decoder.
    """

    name = "sub_ln"
    title = "Sub-LN"
    equation = "x + f(LN(x)), one more LN before the last linear map of f, initialization with gain gamma"
    paper = "https://arxiv.org/abs/2210.06423"
    when_to_use = "deep Pre-LN of any kind of model"
    norm_inside = True
    xavier = staticmethod(nn.init.xavier_normal_)

    def __init__(self, position: LayerPosition) -> None:
        super().__init__(position)
        layers, other = position.num_layers, position.other_layers
        if position.num_sublayers == 3:
            self.gamma = math.sqrt(math.log(3 * layers))
        elif other:
            self.gamma = math.sqrt(math.log(3 * other) * math.log(2 * layers) / 3)
        else:
            self.gamma = math.sqrt(math.log(2 * layers))

    def gain(self, weights):
        return self.gamma if weights == VALUES else 1.0

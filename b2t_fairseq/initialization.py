"""Initializations: the only code that rewrites weights after construction.

One is a class with a function that rewrites the weights of a stack.  To add one, write the class and put it into
``INITIALIZATIONS``.  Flags, error messages, tests and the tables of the documentation read that registry.  An
initialization is independent of the residual scheme, except that some schemes are initializations themselves.

All of it must run before parameters are tied, so that a shared weight is drawn or scaled once.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from b2t_common.errors import InputError, known

_ATTENTION_SCORES = ("q_proj", "k_proj")
_ENDS_OF_SUBLAYERS = ("out_proj", "fc2")


class Initialization:
    """Base of all initializations, none of which is ever an object."""

    name: ClassVar[str]
    rule: ClassVar[str]
    paper: ClassVar[str] = ""
    needs_unit_embeddings: ClassVar[bool] = False
    """Whether it was derived for embeddings whose elements have the standard deviation 1."""

    @classmethod
    def rewrite(cls, layers: Sequence[nn.Module], embed_dim: int, num_sublayers: int) -> None:
        """Rewrite the weights of a stack; norms and biases are left alone.

        Args:
            layers: the N layers of the stack.
            embed_dim: width of the residual stream.
            num_sublayers: sub-layers of a layer: 2, or 3 with cross-attention.
        """
        raise NotImplementedError


class Fairseqs(Initialization):
    """fairseq's own: Xavier's for attention, PyTorch's default for feed-forward sub-layers."""

    name = "fairseq"
    rule = "as fairseq draws them"

    @classmethod
    def rewrite(cls, layers, embed_dim, num_sublayers):
        pass


class DepthScaled(Initialization):
    """The initialization behind the B2T release's 27.52 BLEU (in its code since May 2023)."""

    name = "depth_scaled"
    rule = "fairseq's, all weights of the N layers of a stack times N^-1/2"
    paper = "https://arxiv.org/abs/2206.00330"

    @classmethod
    @torch.no_grad()
    def rewrite(cls, layers, embed_dim, num_sublayers):
        factor = len(layers) ** -0.5
        for _, module in _linear_maps(layers):
            module.weight.mul_(factor)


class Small(Initialization):
    """Small initialization, Nguyen & Salazar 2019 (arXiv 1910.05895): Xavier's for a matrix of d and 4d.

    The paper has it for attention.  Here it is drawn for the feed-forward sub-layers too.  For those it is Xavier's own
    if they are four times as wide as the residual stream.
    """

    name = "small"
    rule = "N(0, 2/(5d)): normal with variance 2/(5d)"
    paper = "https://arxiv.org/abs/1910.05895"

    @classmethod
    @torch.no_grad()
    def rewrite(cls, layers, embed_dim, num_sublayers):
        for _, module in _linear_maps(layers):
            module.weight.normal_(std=(2 / (5 * embed_dim)) ** 0.5)


class SpikeNoMore(Small):
    """Spike No More, Takase et al. 2023 (arXiv 2312.16903): small sub-layers and large shortcuts.

    Small initialization, with the last weight of each sub-layer times sqrt(1/(2N)).  The shortcuts are large if the
    elements of the embedding have the standard deviation 1.  A decoder with cross-attention has 3N sub-layers: that the
    factor is sqrt(1/(3N)) there is our choice.
    """

    name = "spike_no_more"
    rule = "N(0, 2/(5d)), the last weight of each of the S sub-layers of a stack times S^-1/2"
    paper = "https://arxiv.org/abs/2312.16903"
    needs_unit_embeddings = True

    @classmethod
    @torch.no_grad()
    def rewrite(cls, layers, embed_dim, num_sublayers):
        super().rewrite(layers, embed_dim, num_sublayers)
        factor = (num_sublayers * len(layers)) ** -0.5
        for name, module in _linear_maps(layers):
            if name.endswith(_ENDS_OF_SUBLAYERS):
                module.weight.mul_(factor)


INITIALIZATIONS: dict[str, type[Initialization]] = {
    initialization.name: initialization for initialization in (Fairseqs, DepthScaled, Small, SpikeNoMore)
}

DEFAULT = Fairseqs.name
"""The default of ``--init``."""
DEPTH_SCALED = DepthScaled.name
"""What ``--depth-scaled-init`` means."""


def chosen_initialization(name: str, depth_scaled_init: bool) -> type[Initialization]:
    """Return the initialization that two flags choose.

    Args:
        name: the value of ``--init``.
        depth_scaled_init: whether ``--depth-scaled-init`` is given, an older name of one of them.

    Raises:
        InputError: the name is unknown, or is not what the other flag says; the message quotes both.
    """
    chosen = known(INITIALIZATIONS, name, "--init", "initialization")
    if not depth_scaled_init:
        return chosen
    if name not in (DEFAULT, DepthScaled.name):
        raise InputError(f"--depth-scaled-init means --init {DepthScaled.name}, which contradicts --init {name}")
    return DepthScaled


def check_embeddings(initialization: type[Initialization], settings: Namespace) -> None:
    """Check that the embeddings are what an initialization needs, in a model that does not normalize them.

    Raises:
        InputError: they are not; the message quotes the flag that is to blame.
    """
    if not initialization.needs_unit_embeddings:
        return
    for name in ("no_scale_embedding", "character_embeddings", "encoder_embed_path", "decoder_embed_path"):
        value = getattr(settings, name, None)
        if value:
            given = "--" + name.replace("_", "-") + ("" if value is True else f" {value}")
            raise InputError(
                f"--init {initialization.name} needs embeddings of standard deviation 1, as fairseq's scaled ones are, "
                f"but {given} gives others; drop it, or add --layernorm-embedding"
            )


def draw_weights(layer: nn.Module, draw: Callable[[Tensor, float], Tensor], scores: float, values: float) -> None:
    """Draw the weights of a layer anew; biases are left alone.

    Args:
        layer: an encoder or decoder layer.
        draw: fills a weight in place, given a gain, as ``torch.nn.init.xavier_uniform_`` does.
        scores: the gain of q and k, which make the attention scores.
        values: the gain of v, out, fc1 and fc2, which carry values.
    """
    for name, module in _linear_maps([layer]):
        draw(module.weight, scores if name.endswith(_ATTENTION_SCORES) else values)


@torch.no_grad()
def scale_embeddings(modules: Sequence[nn.Module], factor: float) -> None:
    """Multiply every embedding table in ``modules`` by ``factor``, once if several of them use it."""
    tables = {id(e.weight): e.weight for module in modules for e in module.modules() if isinstance(e, nn.Embedding)}
    for table in tables.values():
        table.mul_(factor)


def _linear_maps(layers: Sequence[nn.Module]) -> list[tuple[str, nn.Linear]]:
    """Return the linear maps of layers with their names in the layer."""
    return [(name, m) for layer in layers for name, m in layer.named_modules() if isinstance(m, nn.Linear)]

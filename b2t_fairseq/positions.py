"""Positions: what is added to the embeddings so that a model knows the order of the words.

An entry is one class.  To add one, write the class and put it into ``POSITIONS``.  Flags, error messages, tests and the
tables of the documentation read that registry.
"""

from __future__ import annotations

from argparse import Namespace
from typing import ClassVar

import torch
from fairseq.modules import LearnedPositionalEmbedding, PositionalEmbedding, SinusoidalPositionalEmbedding
from fairseq.utils import make_positions
from torch import Tensor, nn

from b2t_common.errors import InputError, known


class Positions:
    """Base of all kinds of positions: what builds the module, and what it can work with."""

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    paper: ClassVar[str]
    when_to_use: ClassVar[str]
    """One phrase for the table of positions."""
    module: ClassVar[type[nn.Module]]
    """The class of the module: from tokens, ``(batch, seq_len)``, to vectors, ``(batch, seq_len, embed_dim)``."""
    is_learned: ClassVar[bool] = False
    """Whether there is a table of parameters, as with fairseq's ``--encoder-learned-pos``."""
    flags: ClassVar[tuple[str, ...]] = ()
    """Settings of the model that no other kind reads."""

    @classmethod
    def build(cls, num_positions: int, embed_dim: int, padding_idx: int, settings: Namespace) -> nn.Module:
        """Return a new module.

        Args:
            num_positions: the largest number of tokens of a sentence.
            embed_dim: length of the vectors.
            padding_idx: the symbol that has no position.
            settings: the model's settings.
        """
        return PositionalEmbedding(num_positions, embed_dim, padding_idx, learned=cls.is_learned)

    @classmethod
    def check(cls, settings: Namespace) -> None:
        """Check the settings that only this kind reads.

        Raises:
            InputError: a value is impossible.
        """


class Sinusoidal(Positions):
    """Sines and cosines, Vaswani et al. 2017 (arXiv 1706.03762), section 3.5: fairseq's own module."""

    name = "sinusoidal"
    title = "Sinusoidal"
    equation = "sin and cos of t / 10000^(2i/d) at position t"
    paper = "https://arxiv.org/abs/1706.03762"
    when_to_use = "the default, and that of both papers"
    module = SinusoidalPositionalEmbedding


class Learned(Positions):
    """One trainable vector for each position, Gehring et al. 2017 (arXiv 1705.03122), section 3.1: fairseq's own."""

    name = "learned"
    title = "Learned"
    equation = "a trainable vector for each t"
    paper = "https://arxiv.org/abs/1705.03122"
    when_to_use = "sentences no longer than those of training"
    module = LearnedPositionalEmbedding
    is_learned = True


class ShiftedSinusoidalEmbedding(SinusoidalPositionalEmbedding):
    """The module of SHAPE: in training all positions of a sentence are shifted by a number that is drawn for it.

    Args:
        num_positions: the largest number of tokens of a sentence.
        embed_dim: length of the vectors.
        padding_idx: the symbol that has no position.
        offsets: K, the number of different shifts.
    """

    def __init__(self, num_positions: int, embed_dim: int, padding_idx: int, offsets: int) -> None:
        super().__init__(embed_dim, padding_idx, init_size=num_positions + padding_idx + 1)
        self.num_positions, self.offsets = num_positions, offsets

    def forward(self, input: Tensor, incremental_state=None, timestep=None, positions=None) -> Tensor:
        """Return the vectors of positions, ``(batch, seq_len, embed_dim)``; see fairseq for the other arguments.

        Args:
            input: tokens, ``(batch, seq_len)``.
            incremental_state: present in step-by-step decoding.
            timestep: as in fairseq.
            positions: as in fairseq.
        """
        if not self.training or input.size(1) > self.num_positions:
            return super().forward(input, incremental_state, timestep, positions)
        positions = self.shifted_positions(input)
        return self.weights.index_select(0, positions.flatten()).view(*input.shape, -1)

    def shifted_positions(self, tokens: Tensor) -> Tensor:
        """Return the rows of the table, ``(batch, seq_len)``; the first position of a sentence without shift is row
        ``padding_idx + 1``.

        Args:
            tokens: ``(batch, seq_len)``.
        """
        is_token = tokens.ne(self.padding_idx)
        # the numbers of shifts with which a sentence still fits into the table, (batch, 1)
        choices = (self.num_positions + 1 - is_token.sum(dim=1, keepdim=True)).clamp(max=self.offsets)
        shifts = (_draw(len(tokens)).to(tokens.device, non_blocking=True).unsqueeze(1) * choices).long()
        return make_positions(tokens, self.padding_idx) + shifts * is_token


def _draw(sentences: int) -> Tensor:
    """Return one number in [0, 1) for each sentence, ``(sentences,)``.

    fairseq seeds PyTorch's generator before each update from ``--seed`` and the number of the update.  So a continued
    run draws what it would have drawn.  All processes get the same seed from it, so the rank is added.
    """
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if is_distributed else 0
    seed = int(torch.randint(2**31, ())) + rank
    return torch.rand(sentences, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Shape(Positions):
    """SHAPE, Kiyono et al. 2021 (arXiv 2109.05644), section 3: positions that are shifted at random in training.

    For each sentence one k is drawn from 0 to K - 1, for source and target independently.  A sentence for which not
    that many positions are left has fewer choices.  Evaluation has k = 0, so a trained model is an ordinary one with
    sinusoidal positions.  The authors' code has k = K there, which no sentence of training has had.
    """

    name = "shape"
    title = "SHAPE"
    equation = "sinusoidal at t + k; in training k is drawn from 0 to K - 1 for each sentence, in evaluation k = 0"
    paper = "https://arxiv.org/abs/2109.05644"
    when_to_use = "sentences longer than those of training"
    module = ShiftedSinusoidalEmbedding
    flags = ("shape_offsets",)

    @classmethod
    def build(cls, num_positions, embed_dim, padding_idx, settings):
        return ShiftedSinusoidalEmbedding(num_positions, embed_dim, padding_idx, settings.shape_offsets)

    @classmethod
    def check(cls, settings):
        if settings.shape_offsets < 2:
            raise InputError(
                f"--shape-offsets {settings.shape_offsets}: --positions {cls.name} needs 2 or more; with 1 its "
                f"positions are those of --positions {Sinusoidal.name}"
            )
        # A language model reads blocks of that many tokens.
        block = getattr(settings, "tokens_per_sample", None)
        if block and (settings.max_target_positions or block) <= block:
            raise InputError(
                f"--positions {cls.name} with --tokens-per-sample {block} leaves no position to shift to; add "
                f"--max-target-positions {block + settings.shape_offsets - 1}"
            )


POSITIONS: dict[str, type[Positions]] = {kind.name: kind for kind in (Sinusoidal, Learned, Shape)}

DEFAULT = Sinusoidal.name
"""The positions of a model without any flag for them."""


def positions_class(name: str) -> type[Positions]:
    """Return the class of the positions ``name``.

    Raises:
        InputError: the name is unknown; the message lists the known ones.
    """
    return known(POSITIONS, name, "--positions", "positions")


def positions_of_stack(settings: Namespace, stack: str) -> type[Positions] | None:
    """Return the positions of ``"encoder"`` or ``"decoder"``, from checked settings of a model; ``None``: it has none.

    Without ``--positions`` fairseq's own flags decide.
    """
    if settings.no_token_positional_embeddings:
        return None
    if settings.positions is not None:
        return positions_class(settings.positions)
    return Learned if getattr(settings, f"{stack}_learned_pos", False) else Sinusoidal

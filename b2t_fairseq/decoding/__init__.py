"""Beam search for models with ``--kernels fast``: fairseq's search and scores, computed in less time."""

from __future__ import annotations

import functools

from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks import FairseqTask

from .generator import BeamSearchGenerator

__all__ = ["BeamSearchGenerator", "apply"]


@functools.cache
def apply() -> None:
    """Make all of fairseq's commands translate with :class:`BeamSearchGenerator`; calling it again does nothing."""
    FairseqTask.build_generator = _with_beam_search(FairseqTask.build_generator)


def _with_beam_search(build_generator):
    """Make a generator of fairseq's plain kind one of ours, which leaves to fairseq's what it cannot do."""

    @functools.wraps(build_generator)
    def wrapper(self, *args, **kwargs):
        generator = build_generator(self, *args, **kwargs)
        if type(generator) is SequenceGenerator:
            generator.__class__ = BeamSearchGenerator
        return generator

    return wrapper

"""Beam search for models with ``--kernels fast``: fairseq's search and scores, computed in less time."""

from __future__ import annotations

import functools

from fairseq.sequence_generator import SequenceGenerator

from .generator import BeamSearchGenerator

__all__ = ["BeamSearchGenerator", "with_beam_search"]


def with_beam_search(build_generator):
    """Return ``FairseqTask.build_generator`` that builds our generator instead of fairseq's plain one."""

    @functools.wraps(build_generator)
    def wrapper(self, *args, **kwargs):
        generator = build_generator(self, *args, **kwargs)
        if type(generator) is SequenceGenerator:
            generator.__class__ = BeamSearchGenerator
        return generator

    return wrapper

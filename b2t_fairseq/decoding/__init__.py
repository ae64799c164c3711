"""Beam search for models with ``--kernels fast``: fairseq's search and scores, computed in less time."""

from __future__ import annotations

import functools

from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks.speech_to_text import SpeechToTextTask

from ..layer_stack import layer_stacks
from .generator import BeamSearchGenerator
from .search_settings import check_search

__all__ = ["BeamSearchGenerator", "with_beam_search"]


def with_beam_search(build_generator):
    """Return ``FairseqTask.build_generator`` that builds our generator instead of fairseq's plain one.

    Settings that would be ignored are refused, if one of the models is this plugin's.
    """

    @functools.wraps(build_generator)
    def wrapper(self, models, args, *more, **kwargs):
        if any(layer_stacks(model) for model in models):
            check_search(args, len(self.target_dictionary), isinstance(self, SpeechToTextTask))
        generator = build_generator(self, models, args, *more, **kwargs)
        if type(generator) is SequenceGenerator:
            generator.__class__ = BeamSearchGenerator
        return generator

    return wrapper

"""Beam search for models with ``--kernels fast``: fairseq's search and scores, computed in less time.

What ``b2t generate`` adds to fairseq's settings of a search reaches this module as one more of them: ``int8``.
"""

from __future__ import annotations

import functools

from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks.speech_to_text import SpeechToTextTask

from ..kernels.quantized import quantize
from ..kernels.reordered import reorder_weights
from ..layer_stack import layer_stacks
from .generator import BeamSearchGenerator
from .search_settings import check_search

__all__ = ["BeamSearchGenerator", "with_beam_search"]


def with_beam_search(build_generator):
    """Return ``FairseqTask.build_generator`` that builds our generator instead of fairseq's plain one.

    Settings that would be ignored are refused, if one of the models is this plugin's.  With the setting ``int8`` the
    models and the language model get 8-bit weights first.  Without it the weights of models that fairseq has prepared
    for inference, which can no longer be trained, are reordered for oneDNN.
    """

    @functools.wraps(build_generator)
    def wrapper(self, models, args, *more, **kwargs):
        if getattr(args, "int8", False):
            language_model = (kwargs.get("extra_gen_cls_kwargs") or {}).get("lm_model")
            for model in [*models, *([] if language_model is None else [language_model])]:
                quantize(model)
        else:
            for model in models:
                if layer_stacks(model) and getattr(model, "_is_generation_fast", False):
                    reorder_weights(model)
        if any(layer_stacks(model) for model in models):
            check_search(args, len(self.target_dictionary), isinstance(self, SpeechToTextTask))
        generator = build_generator(self, models, args, *more, **kwargs)
        if type(generator) is SequenceGenerator:
            generator.__class__ = BeamSearchGenerator
        return generator

    return wrapper

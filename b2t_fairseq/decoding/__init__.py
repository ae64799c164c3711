"""Beam search for models with ``--kernels fast``: fairseq's search and scores, computed in less time.

What ``b2t generate`` adds to fairseq's settings of a search reaches this module as more of them: ``int8``,
``bf16``, ``shortlist``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks import FairseqTask
from fairseq.tasks.speech_to_text import SpeechToTextTask
from torch import nn

from b2t_common.errors import InputError

from ..kernels.bfloat16 import to_bfloat16
from ..kernels.quantized import quantize
from ..kernels.reordered import reorder_weights
from ..layer_stack import layer_stacks
from .generator import BeamSearchGenerator
from .search_settings import check_search, check_shortlist
from .shortlist import Shortlist, read

__all__ = ["BeamSearchGenerator", "with_beam_search"]


def with_beam_search(build_generator):
    """Return ``FairseqTask.build_generator`` that builds our generator instead of fairseq's plain one.

    Settings that would be ignored are refused, if one of the models is this plugin's.  With the setting ``int8`` or
    ``bf16`` the models and the language model get weights in 8 bits or in bfloat16 first.  Without them the weights of
    models that fairseq has prepared for inference, which can no longer be trained, are reordered for oneDNN.  With the
    setting ``shortlist``, a file, only the symbols follow that it allows.
    """

    @functools.wraps(build_generator)
    def wrapper(self, models, args, *more, **kwargs):
        language_model = (kwargs.get("extra_gen_cls_kwargs") or {}).get("lm_model")
        _change_weights(args, [*models, *([] if language_model is None else [language_model])])
        if any(layer_stacks(model) for model in models):
            check_search(args, len(self.target_dictionary), isinstance(self, SpeechToTextTask))
        shortlist = _shortlist(self, models, args, kwargs)
        generator = build_generator(self, models, args, *more, **kwargs)
        if type(generator) is SequenceGenerator:
            generator.__class__ = BeamSearchGenerator
            generator.shortlist = shortlist
        elif shortlist is not None:
            raise InputError(
                f"--shortlist {args.shortlist}: {type(generator).__name__} cannot use it; drop one of them"
            )
        return generator

    return wrapper


def _change_weights(args: Any, models: Sequence[nn.Module]) -> None:
    """Give models the weights that the settings of a search ask for."""
    for model in models:
        if getattr(args, "int8", False):
            quantize(model)
        elif getattr(args, "bf16", False):
            to_bfloat16(model)
        elif layer_stacks(model) and getattr(model, "_is_generation_fast", False):
            reorder_weights(model)


def _shortlist(task: FairseqTask, models: Sequence[nn.Module], args: Any, options: dict) -> Shortlist | None:
    """Return the shortlist that the settings of a search name, after it is known that the search can use it.

    Args:
        task: the task.
        models: those that translate.
        args: the settings of the search.
        options: further arguments of ``build_generator``.
    """
    path = getattr(args, "shortlist", None)
    if not path:
        return None
    check_shortlist(args)
    if options.get("prefix_allowed_tokens_fn") is not None:
        raise InputError(f"--shortlist {path}: prefix_allowed_tokens_fn allows other symbols; drop one of them")
    for model in models:
        stacks = getattr(model, "encoder", None), getattr(model, "decoder", None)
        is_translation = isinstance(stacks[0], TransformerEncoderBase) and isinstance(stacks[1], TransformerDecoderBase)
        if not is_translation or isinstance(task, SpeechToTextTask):
            raise InputError(
                f"--shortlist {path}: {type(model).__name__} has no source text to choose symbols by; drop the flag"
            )
        if stacks[1].adaptive_softmax is not None:
            raise InputError(f"--shortlist {path} does not work with an adaptive softmax; drop the flag")
    shortlist = read(path)
    shortlist.require_dictionaries(task.source_dictionary, task.target_dictionary, f"shortlist {path}")
    return shortlist

"""Refuses settings of the search that fairseq would ignore or fail on, in all commands that translate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from fairseq.data import data_utils
from fairseq.dataclass.configs import GenerationConfig

from b2t_common.errors import InputError
from b2t_common.names import flag, spelled

from ..kernels.quantized import require_engine

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(GenerationConfig) if field.name != "_name"}

_NOT_ITERATIVE = "it is for models that refine a whole translation again and again, and these models are not"
_NOT_TWO_PASSES = "it is for speech-to-speech models that decode twice"
_OBSOLETE = "fairseq ignores it"

REFUSED: dict[str, str] = {
    "beam_mt": _NOT_TWO_PASSES,
    "max_len_a_mt": _NOT_TWO_PASSES,
    "max_len_b_mt": _NOT_TWO_PASSES,
    "lenpen_mt": _NOT_TWO_PASSES,
    "no_early_stop": _OBSOLETE,
    "no_beamable_mm": _OBSOLETE,
    "sacrebleu": "fairseq's score ignores it; --scoring sacrebleu scores, and so does b2t score",
    "replace_unk": "fairseq fails on it, because it takes pairs of an alignment for positions; subword models need it "
    "hardly ever",
    "print_step": _NOT_ITERATIVE,
    "iter_decode_eos_penalty": _NOT_ITERATIVE,
    "iter_decode_max_iter": _NOT_ITERATIVE,
    "iter_decode_force_max_iter": _NOT_ITERATIVE,
    "iter_decode_with_beam": _NOT_ITERATIVE,
    "iter_decode_with_external_reranker": _NOT_ITERATIVE,
    "retain_iter_history": _NOT_ITERATIVE,
    "decoding_format": _NOT_ITERATIVE,
}
"""Settings that do nothing, or fail, with every model of this plugin, and the reason."""

NEEDS: dict[str, tuple[str, Any]] = {
    "sampling_topk": ("sampling", -1),
    "sampling_topp": ("sampling", -1.0),
    "diverse_beam_strength": ("diverse_beam_groups", 0.5),
    "lm_weight": ("lm_path", 0.0),
    "retain_dropout_modules": ("retain_dropout", None),
}
"""Settings without effect unless another one is set: that one, and their default."""

_STRATEGIES = ("sampling", "diverse_beam_groups", "match_source_len", "diversity_rate", "constraints")
"""Settings that choose the search; fairseq takes one of them and ignores the others."""


_NOT_WITH_SHORTLIST = {
    "score_reference": "a reference may have symbols that are no candidates, whose probability would be zero",
    "print_alignment": "fairseq's search with alignments computes the whole vocabulary",
}
"""Settings that a shortlist would make wrong, or that would not use it, and the reason."""


def check_search(args: Any, num_symbols: int | None = None, is_speech: bool = False) -> None:
    """Check the settings of a search.

    Args:
        args: the settings as fairseq's ``build_generator`` gets them, some of which may be missing.
        num_symbols: size of the target dictionary, if it is known.
        is_speech: whether the task is speech to text, whose targets may begin with the tag of a language.

    Raises:
        InputError: on the first setting that would be ignored or fail; the message quotes it and says what to do.
    """
    settings = {name: getattr(args, name, default) for name, default in _DEFAULTS.items()}

    def is_set(name: str) -> bool:
        value = settings.get(name)
        # fairseq's numbers that switch something off are negative
        return value not in (None, False, "", _DEFAULTS.get(name)) and not (name == "diversity_rate" and value <= -1)

    def shown(name: str) -> str:
        return spelled(name, settings[name])

    for name, reason in REFUSED.items():
        if name in _DEFAULTS and is_set(name):
            raise InputError(f"{shown(name)} is not supported: {reason}; drop the flag")
    if is_set("eos_token") and not is_speech:
        raise InputError(
            f"{shown('eos_token')} is not supported: only speech to text begins a translation with another symbol; "
            "drop the flag"
        )
    for name, (needed, _) in NEEDS.items():
        if is_set(name) and not is_set(needed):
            raise InputError(f"{shown(name)} has no effect without {flag(needed)}; add that, or drop it")
    chosen = [name for name in _STRATEGIES if is_set(name)]
    if len(chosen) > 1:
        raise InputError(f"{shown(chosen[0])} and {shown(chosen[1])} are two kinds of search; drop one of them")
    if is_set("sampling_topk") and is_set("sampling_topp"):
        raise InputError(f"{shown('sampling_topk')} has no effect with {shown('sampling_topp')}; drop one of them")
    if settings["unnormalized"] and is_set("lenpen"):
        raise InputError(f"{shown('lenpen')} has no effect with --unnormalized; drop one of them")
    _check_numbers(settings, num_symbols)


def check_precision(chosen: Sequence[str], uses_gpu: bool) -> None:
    """Check how many bits the weights shall have.

    Args:
        chosen: the names of the precisions that are asked for: ``int8``, ``bf16``, ``fp16``.
        uses_gpu: whether a GPU translates.

    Raises:
        InputError: there are several, or the device or this PyTorch does not have it.
    """
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]} are two precisions of the same weights: drop one of them")
    if "int8" in chosen:
        if uses_gpu:
            raise InputError(
                "--int8 is for CPUs, but a GPU is visible: add --cpu, or drop --int8 (--bf16 and --fp16 are for GPUs)"
            )
        require_engine()
    if "fp16" in chosen and not uses_gpu:
        raise InputError("--fp16 is for GPUs, and none is used here; drop it (--bf16 and --int8 are for CPUs)")


def check_pieces(name: str, pieces: str | None) -> None:
    """Check that fairseq knows the pieces of which a flag makes words.

    Args:
        name: the flag, for the message.
        pieces: its value, ``None`` if it is not given.

    Raises:
        InputError: it does not know them, and would fail after the first translation.
    """
    try:
        data_utils.post_process("", pieces)
    except NotImplementedError:
        raise InputError(
            f"{name} {pieces}: unknown pieces; give sentencepiece, subword_nmt, wordpiece, letter, silence or none"
        ) from None


def check_shortlist(args: Any) -> None:
    """Check that a search can use a shortlist.

    Args:
        args: the settings as fairseq's ``build_generator`` gets them, and ``shortlist``.

    Raises:
        InputError: it cannot; the message says why.
    """
    for name, reason in _NOT_WITH_SHORTLIST.items():
        if getattr(args, name, None):
            raise InputError(
                f"--shortlist {args.shortlist} does not work with {flag(name)}: {reason}; drop one of them"
            )


def _check_numbers(settings: dict[str, Any], num_symbols: int | None) -> None:
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{flag(name)} {value}: give a finite number")
    beam, nbest, groups = settings["beam"], settings["nbest"], settings["diverse_beam_groups"]
    if beam < 1 or nbest < 1:
        name = "beam" if beam < 1 else "nbest"
        raise InputError(f"--{name} {settings[name]}: give a positive number")
    if nbest > beam:
        raise InputError(f"--nbest {nbest} is more than --beam {beam} hypotheses; give a larger --beam")
    if settings["sampling"] and nbest != beam:
        raise InputError(f"--sampling draws --beam {beam} hypotheses, so --nbest {nbest} must be the same number")
    if groups > 0 and beam % groups:
        raise InputError(f"--diverse-beam-groups {groups} do not divide --beam {beam}; give a multiple as --beam")
    if settings["max_len_a"] == 0 and settings["min_len"] > settings["max_len_b"]:
        raise InputError(f"--min-len {settings['min_len']} is more than --max-len-b {settings['max_len_b']}")
    if settings["temperature"] <= 0:
        raise InputError(f"--temperature {settings['temperature']}: give a positive number")
    if num_symbols is not None and settings["sampling_topk"] > num_symbols:
        raise InputError(
            f"--sampling-topk {settings['sampling_topk']}: the dictionary has only {num_symbols} symbols; give fewer"
        )
    if settings["sampling_topp"] > 1 or (settings["sampling_topp"] <= 0 and settings["sampling_topp"] != -1):
        raise InputError(f"--sampling-topp {settings['sampling_topp']}: give a probability above 0, at most 1")
    if settings["sampling_topk"] < 1 and settings["sampling_topk"] != -1:
        raise InputError(f"--sampling-topk {settings['sampling_topk']}: give a positive number")
    for name in ("min_len", "prefix_size", "no_repeat_ngram_size", "max_len_a", "max_len_b"):
        if settings[name] < 0:
            raise InputError(f"{flag(name)} {settings[name]}: give a number that is not negative")

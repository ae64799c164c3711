"""Translating: ``fairseq-generate`` for several subsets in one process."""

from __future__ import annotations

import ast
import glob
import logging
import math
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from fairseq import options, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate as fairseq_generate
from omegaconf import DictConfig, open_dict

from b2t_common.errors import InputError
from b2t_common.files import replacing
from b2t_common.names import flag
from b2t_fairseq import checkpoints
from b2t_fairseq.decoding import shortlist
from b2t_fairseq.decoding.search_settings import check_pieces, check_precision, check_search, check_shortlist
from b2t_fairseq.hub import data_folder, refuse_other_direction

from ..path import with_plugin

logger = logging.getLogger(__name__)

_OF_TRAINING = ("amp", "memory_efficient_fp16", "memory_efficient_bf16", "tpu")
"""Precisions that fairseq-generate accepts and ignores."""


def run(argv: list[str], subset_lenpen: Sequence[str] = (), settings: Mapping[str, Any] | None = None) -> None:
    """Translate with the flags of ``fairseq-generate``; ``--gen-subset`` may name several subsets (``test,test1``).

    With ``--results-path DIR`` the output for each subset is ``DIR/generate-SUBSET.txt``, which is complete or absent.

    Args:
        argv: the flags of ``fairseq-generate``; ``--user-dir`` is this plugin unless another is given.
        subset_lenpen: ``SUBSET=LENPEN`` for each subset with its own length penalty.
        settings: of the search, in addition to fairseq's: ``int8``, ``bf16``, ``shortlist``.

    Raises:
        InputError: a flag cannot work, ``subset_lenpen`` names a subset that is not translated, there are no 8-bit
            products here, or the shortlist cannot be read.
    """
    settings = settings or {}
    args = options.parse_args_and_arch(options.get_generation_parser(), input_args=with_plugin(argv))
    # fairseq's parser overwrites this flag
    args.no_seed_provided = "--no-seed-provided" in argv
    subsets = args.gen_subset.split(",")
    length_penalties = _length_penalties(subset_lenpen, subsets)
    _check(args)
    _check_precision(args, settings)
    if settings.get("shortlist"):
        check_shortlist(Namespace(**{**vars(args), **settings}))
        shortlist.read(settings["shortlist"])
    # fairseq-generate has the flags --num-shards and --shard-id and divides the sentences by these settings
    args.distributed_world_size, args.distributed_rank = args.num_shards, args.shard_id
    for subset in subsets:
        one = deepcopy(args)
        one.gen_subset = subset
        one.lenpen = length_penalties.get(subset, args.lenpen)
        cfg = convert_namespace_to_omegaconf(one)
        with open_dict(cfg.generation):
            cfg.generation.update(settings)
        if args.results_path is None:
            with _plain_refusals(cfg):
                fairseq_generate.main(cfg)
        else:
            _generate_to_file(cfg, Path(args.results_path) / f"generate-{subset}.txt")


def _check(args: Namespace) -> None:
    """Check what can be known before a model is loaded.

    Raises:
        InputError: a flag would be ignored or fail, or a checkpoint does not exist.
    """
    check_search(args)
    check_pieces("--remove-bpe", args.post_process)
    if args.seed is not None and args.seed < 0:
        raise InputError(f"--seed {args.seed}: give 0 or more")
    if args.constraints:
        raise InputError(
            f"--constraints {args.constraints} has no effect here, because binary data have no constraints; give "
            "sentences with their constraints to fairseq-interactive"
        )
    if args.num_shards < 1:
        raise InputError(f"--num-shards {args.num_shards}: give a positive number")
    if not 0 <= args.shard_id < args.num_shards:
        raise InputError(
            f"--shard-id {args.shard_id}: with --num-shards {args.num_shards} give a number from 0 to "
            f"{args.num_shards - 1}"
        )
    if not args.path:
        raise InputError("--path is missing; give the checkpoint of a model")
    is_one_file = not args.checkpoint_suffix and args.checkpoint_shard_count == 1
    files = [("--path", path) for path in utils.split_paths(args.path)] if is_one_file else []
    for name, path in [*files, ("--lm-path", args.lm_path)]:
        if path and not Path(path).is_file():
            raise InputError(f"{name} {path}: no such checkpoint")
    languages: list[Any] = [getattr(args, name, None) for name in ("source_lang", "target_lang")]
    is_compared = all(languages) or args.model_overrides != "{}"
    states = {path: checkpoints.load(path) for _, path in files} if is_compared else {}
    for path, state in states.items():
        if all(languages):
            refuse_other_direction(Path(path), checkpoints.task_settings(state), *languages)
    _check_overrides(args.model_overrides, states.values())
    _check_data(args)


def _check_overrides(given: str, states: Iterable[Mapping[str, Any]]) -> None:
    """Check that each setting of ``--model-overrides`` is one of these checkpoints'; fairseq ignores all others.

    Raises:
        InputError: it is no dictionary, or no checkpoint has the setting.
    """
    try:
        overrides = ast.literal_eval(given)
    except (SyntaxError, ValueError):
        overrides = None
    if not isinstance(overrides, dict):
        raise InputError(f"--model-overrides {given}: give a dictionary, for instance \"{{'kernels': 'fast'}}\"")
    known: set[str] = set()
    for state in states:
        if state.get("args") is not None:
            return  # fairseq adds what older checkpoints lack
        known.update(_names(state.get("cfg") or {}))
    for name in overrides if known else ():
        if name not in known:
            raise InputError(
                f"--model-overrides {given}: the checkpoint has no setting {name!r}, so it would have no effect; "
                "spell it as the flag, with underscores, or drop it"
            )


def _names(settings: DictConfig | Namespace | Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all settings, those of groups too."""
    for name, value in checkpoints.flat_settings(settings).items():
        yield name
        if isinstance(value, DictConfig | Namespace | Mapping):
            yield from _names(value)


def _check_data(args: Namespace) -> None:
    """Check that the data have each subset and the language model's dictionary, before the first subset is translated.

    Raises:
        InputError: one of them is missing.
    """
    folder = data_folder(vars(args))
    for subset in args.gen_subset.split(",") if folder.is_dir() else ():
        if not any(folder.glob(f"{glob.escape(subset)}.*")):
            raise InputError(f"--gen-subset {args.gen_subset}: {folder} has no data named {subset}")
    if args.lm_path and folder.is_dir() and not (folder / "dict.txt").is_file():
        raise InputError(
            f"--lm-path {args.lm_path}: fairseq looks for the language model's dictionary in {folder}/dict.txt; copy "
            "it there from the data of the language model"
        )


@contextmanager
def _plain_refusals(cfg: DictConfig) -> Iterator[None]:
    """Say in one line what fairseq fails on, and let a shard without a batch be translated into nothing.

    Raises:
        InputError: a sentence is too long.
    """
    subset = cfg.dataset.gen_subset
    try:
        yield
    except ZeroDivisionError as error:
        if not _has_translated_nothing(error):
            raise
        logger.warning(f"--gen-subset {subset}: there was nothing to translate")
    except Exception as error:
        if "skip-invalid-size-inputs" in str(error):
            raise InputError(
                f"--gen-subset {subset}: {error}, or translate the text with b2t translate, which cuts long lines"
            ) from None
        if "should not exceed max_tokens" in str(error):
            raise InputError(
                f"--max-tokens {cfg.dataset.max_tokens}: a sentence of {subset!r} has more tokens; give more"
            ) from None
        raise


def _has_translated_nothing(error: ZeroDivisionError) -> bool:
    """Whether fairseq-generate divides by the time of its batches because there were none."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_locals.get("num_sentences") == 0


def _check_precision(args: Namespace, settings: Mapping[str, Any]) -> None:
    """Check the flags that say how many bits the weights have.

    Raises:
        InputError: they cannot work; the message says why.
    """
    for name in _OF_TRAINING:
        if getattr(args, name):
            raise InputError(f"{flag(name)} has no effect on translation: drop it, or give --bf16 or --fp16")
    given = {"int8": settings.get("int8"), "bf16": settings.get("bf16"), "fp16": args.fp16}
    check_precision([name for name, is_given in given.items() if is_given], torch.cuda.is_available() and not args.cpu)


def _length_penalties(given: Sequence[str], subsets: Sequence[str]) -> dict[str, float]:
    penalties = {}
    for pair in given:
        subset, _, value = pair.partition("=")
        try:
            penalties[subset] = float(value)
        except ValueError:
            raise InputError(f"--subset-lenpen {pair}: give SUBSET=NUMBER, such as test=0.6") from None
        if not math.isfinite(penalties[subset]):
            raise InputError(f"--subset-lenpen {pair}: give a finite number")
        if subset not in subsets:
            raise InputError(f"--subset-lenpen {pair}: --gen-subset has only {', '.join(subsets)}")
    return penalties


def _generate_to_file(cfg: DictConfig, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # fairseq logs into the output, but only if the root logger has no handler yet
    logging.getLogger().handlers.clear()
    try:
        with (
            replacing(path) as (unfinished,),
            open(unfinished, "w", buffering=1, encoding="utf-8") as output,
            _plain_refusals(cfg),
        ):
            fairseq_generate._main(cfg, output)
    finally:
        logging.getLogger().handlers.clear()

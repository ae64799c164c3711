"""Translating: ``fairseq-generate`` for several subsets in one process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate as fairseq_generate

from b2t_common.errors import InputError
from b2t_common.files import replacing

from ..path import with_plugin


def run(argv: list[str], subset_lenpen: Sequence[str] = ()) -> None:
    """Translate with ``fairseq-generate``'s own flags; ``--gen-subset`` may name several subsets (``test,test1``).

    With ``--results-path DIR`` the output for each subset is ``DIR/generate-SUBSET.txt``, which is complete or absent.

    Args:
        argv: the flags of ``fairseq-generate``; ``--user-dir`` is this plugin unless another is given.
        subset_lenpen: ``SUBSET=LENPEN`` for each subset that has a length penalty of its own.

    Raises:
        InputError: a member of ``subset_lenpen`` is not of that form, or names a subset that is not translated.
    """
    args = options.parse_args_and_arch(options.get_generation_parser(), input_args=with_plugin(argv))
    subsets = args.gen_subset.split(",")
    length_penalties = _length_penalties(subset_lenpen, subsets)
    for subset in subsets:
        one = deepcopy(args)
        one.gen_subset = subset
        one.lenpen = length_penalties.get(subset, args.lenpen)
        cfg = convert_namespace_to_omegaconf(one)
        if args.results_path is None:
            fairseq_generate.main(cfg)
        else:
            _generate_to_file(cfg, Path(args.results_path) / f"generate-{subset}.txt")


def _length_penalties(given: Sequence[str], subsets: Sequence[str]) -> dict[str, float]:
    penalties = {}
    for pair in given:
        subset, _, value = pair.partition("=")
        try:
            penalties[subset] = float(value)
        except ValueError:
            raise InputError(f"--subset-lenpen {pair}: give SUBSET=NUMBER, such as test=0.6") from None
        if subset not in subsets:
            raise InputError(f"--subset-lenpen {pair}: --gen-subset has only {', '.join(subsets)}")
    return penalties


def _generate_to_file(cfg, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # fairseq logs into the output, and only where no logging is set up yet
    logging.getLogger().handlers.clear()
    try:
        with replacing(path) as (unfinished,), open(unfinished, "w", buffering=1, encoding="utf-8") as output:
            fairseq_generate._main(cfg, output)
    finally:
        logging.getLogger().handlers.clear()

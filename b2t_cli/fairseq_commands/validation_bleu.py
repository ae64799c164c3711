"""BLEU in validation: text is made of a translation as ``scripts/evaluate.sh`` makes it, without flags for that."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from fairseq.dataclass.configs import FairseqConfig, GenerationConfig

from b2t_common.errors import InputError
from b2t_common.names import flag
from b2t_fairseq.decoding.search_settings import check_pieces
from b2t_fairseq.hub import language_pair

DETOKENIZE = "detokenize.txt"
"""What scripts/evaluate.sh reads in the folder of the data: the flags of fairseq-generate that make text of tokens."""

_OF_SENTENCEPIECE, _OF_SUBWORD_NMT = "\u2581", "@@"
_SHARE = 0.1
"""A dictionary has pieces of one kind if so many of its symbols have the mark of that kind."""
_GREATEST_IS_BEST = ("bleu", "accuracy")


def refuse_worst_checkpoints(cfg: FairseqConfig) -> None:
    """Check that the best checkpoints are those with the highest BLEU.

    Raises:
        InputError: the lowest would be taken for the best.
    """
    metric = cfg.checkpoint.best_checkpoint_metric
    is_computed = metric != "bleu" or getattr(cfg.task, "eval_bleu", False)
    if metric in _GREATEST_IS_BEST and is_computed and not cfg.checkpoint.maximize_best_checkpoint_metric:
        raise InputError(
            f"--best-checkpoint-metric {metric}: fairseq would take the lowest {metric} for the best; add "
            "--maximize-best-checkpoint-metric"
        )


def refuse_bad_arguments(cfg: FairseqConfig) -> None:
    """Check the flags of ``--eval-bleu`` that fairseq reads when it validates.

    Raises:
        InputError: one is no JSON, or names what fairseq does not know.
    """
    if not getattr(cfg.task, "eval_bleu", False):
        return
    given = {}
    for name in ("eval_bleu_args", "eval_bleu_detok_args"):
        try:
            given[name] = json.loads(cfg.task[name])
        except ValueError as error:
            raise InputError(
                f'{flag(name)} {cfg.task[name]} is not JSON ({error}); for instance {{"beam": 4}}'
            ) from None
        if not isinstance(given[name], dict):
            raise InputError(f'{flag(name)} {cfg.task[name]} is no object of JSON; for instance {{"beam": 4}}')
    known = {field.name for field in dataclasses.fields(GenerationConfig)}
    for name in given["eval_bleu_args"]:
        # what this plugin adds, such as int8, would change the weights that are trained
        if name not in known:
            raise InputError(
                f"--eval-bleu-args {cfg.task.eval_bleu_args}: no flag of the search is named {name!r}; spell it as the "
                "flag of fairseq-generate, with underscores, or drop it"
            )
    check_pieces("--eval-bleu-remove-bpe", cfg.task.eval_bleu_remove_bpe)


def complete(cfg: FairseqConfig, argv: list[str]) -> None:
    """Set the flags of ``--eval-bleu`` that make text of pieces, as far as the command line does not give them.

    They follow from ``detokenize.txt`` in the folder of the data.  Without that file, the target dictionary says which
    pieces it has: those of SentencePiece or of subword-nmt.

    Args:
        cfg: all settings of the training; those of the task are changed.
        argv: the flags as they were given.

    Raises:
        InputError: the detokenizer of Moses is asked for and not installed.
    """
    task = cfg.task
    if not getattr(task, "eval_bleu", False):
        return
    folder = Path(str(task.data).split(":")[0])
    given = {argument.split("=")[0] for argument in argv}
    languages = language_pair({"source_lang": task.source_lang, "target_lang": task.target_lang}, folder)
    remove_bpe, tokenizer, origin = _how_to_detokenize(folder, languages[1])
    chosen = []
    if remove_bpe and not {"--eval-bleu-remove-bpe", "--eval-tokenized-bleu"} & given:
        task.eval_bleu_remove_bpe = remove_bpe
        chosen.append(f"--eval-bleu-remove-bpe {shlex.quote(remove_bpe)}")
    if tokenizer and not {"--eval-bleu-detok", "--eval-tokenized-bleu"} & given:
        task.eval_bleu_detok = tokenizer
        chosen.append(f"--eval-bleu-detok {tokenizer}")
    if chosen:
        print(f"--eval-bleu: {' '.join(chosen)}, because of {origin}")
    if task.eval_bleu_detok == "moses":
        if importlib.util.find_spec("sacremoses") is None:
            raise InputError("--eval-bleu-detok moses needs sacremoses, which is not installed: pip install sacremoses")
        # fairseq would detokenize every language as English
        of_languages = dict(zip(("source_lang", "target_lang"), languages, strict=True))
        task.eval_bleu_detok_args = json.dumps({**of_languages, **json.loads(task.eval_bleu_detok_args)})


def _how_to_detokenize(folder: Path, language: str | None) -> tuple[str | None, str | None, Path]:
    """Return which pieces to join and which tokenizer to undo, each ``None`` for nothing, and the file that says so."""
    path = folder / DETOKENIZE
    if path.is_file():
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--remove-bpe", "--post-process", nargs="?", const=f"{_OF_SUBWORD_NMT} ")
        parser.add_argument("--tokenizer")
        args, _ = parser.parse_known_args(shlex.split(path.read_text(encoding="utf-8")))
        return args.remove_bpe, args.tokenizer, path
    path = folder / f"dict.{language}.txt"
    symbols = list(_symbols(path))
    least = max(1, _SHARE * len(symbols))
    if sum(symbol.startswith(_OF_SENTENCEPIECE) for symbol in symbols) >= least:
        return "sentencepiece", None, path
    if sum(symbol.endswith(_OF_SUBWORD_NMT) for symbol in symbols) >= least:
        return f"{_OF_SUBWORD_NMT} ", None, path
    return None, None, path


def _symbols(path: Path) -> Iterator[str]:
    if path.is_file():
        with open(path, encoding="utf-8") as file:
            yield from (line.rpartition(" ")[0] for line in file)

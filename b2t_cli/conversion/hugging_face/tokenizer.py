"""The tokenizer's files in the folder of a model: dictionaries, and the subwords of this plugin's preparation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel

from b2t_common.errors import InputError
from b2t_common.names import STACKS
from b2t_common.run_folder import BPE_CODES, SENTENCEPIECE
from b2t_fairseq import hub
from b2t_fairseq.checkpoints import task_settings
from b2t_fairseq.dictionaries import checksum

from .folder import json_bytes

_CODE = Path(__file__).parent / "files" / "tokenization_b2t.py"


def tokenizer_files(
    checkpoint: Path, state: Mapping[str, Any], model: TransformerModel, data: Path | None = None, **languages: str
) -> tuple[dict[str, bytes], str]:
    """Return the tokenizer's files by name, and one line that says what it is.

    Args:
        checkpoint: the path of the checkpoint.
        state: its content.
        model: its model.
        data: the folder with the dictionaries; ``None``: that of the training.
        **languages: ``source_lang`` and ``target_lang``, where they are given.

    Raises:
        InputError: the dictionaries or the subwords are not there, or are those of another model.
    """
    task = task_settings(state)
    data = hub.dictionaries_of(checkpoint.parent, checkpoint, task, data)
    pair = hub.languages(checkpoint, data, {**task, **languages})
    source, target = (
        _dictionary(data / f"dict.{language}.txt", stack, state, model)
        for stack, language in zip(STACKS, pair, strict=True)
    )
    name, subwords = _subwords(data, checkpoint.parent)
    # IWSLT14 in the papers' preparation is lower-cased, and nothing but the words of the dictionary says so.
    lower_case = name == BPE_CODES and not any(symbol != symbol.lower() for symbol in source.symbols)
    files = {
        "tokenizer_config.json": json_bytes(tokenizer_config(pair, model.encoder.max_positions(), lower_case)),
        "source_symbols.json": json_bytes(source.symbols),
        "target_symbols.json": json_bytes(target.symbols),
        name: subwords.read_bytes(),
        _CODE.name: _CODE.read_bytes(),
    }
    return files, f"tokenizer: {subwords} with the dictionaries in {data}" + (", in lower case" if lower_case else "")


def tokenizer_config(languages: tuple[str, str], max_length: int, lower_case: bool) -> dict[str, Any]:
    """Return the content of ``tokenizer_config.json``.

    Args:
        languages: those of sources and of targets.
        max_length: the most symbols of a source.
        lower_case: whether Moses tokens are made lower-case.
    """
    return {
        "tokenizer_class": "B2TTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_b2t.B2TTokenizer", None]},
        "source_lang": languages[0],
        "target_lang": languages[1],
        "model_max_length": max_length,
        "lower_case": lower_case,
    }


def _dictionary(path: Path, stack: str, state: Mapping[str, Any], model: TransformerModel) -> Dictionary:
    """Return a dictionary, which must be that of the training."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such dictionary; give the folder that has it as --data")
    dictionary, size = Dictionary.load(str(path)), getattr(model, stack).embed_tokens.num_embeddings
    if len(dictionary) != size:
        raise InputError(
            f"{path} has {len(dictionary)} symbols, but the model's {stack} has {size}; give its own --data"
        )
    stored = getattr(state["model"], "_metadata", {}).get(stack, {}).get("dictionary")
    if stored not in (None, checksum(dictionary)):
        raise InputError(
            f"{path} has the {size} symbols of another dictionary than that of the training; give the folder of the "
            "model's own as --data"
        )
    return dictionary


def _subwords(data: Path, folder: Path) -> tuple[str, Path]:
    """Return what splits words, and where it is: beside the dictionaries, or beside the model."""
    places = list(dict.fromkeys((data, data.parent, folder)))
    for name in (SENTENCEPIECE, BPE_CODES):
        for place in places:
            if (place / name).is_file():
                return name, place / name
    raise InputError(
        f"there is neither {SENTENCEPIECE} nor {BPE_CODES} in {', '.join(map(str, places))}, so how text becomes "
        "symbols is not known, and no tokenizer can be written; put the file there that the data was made with, or "
        "give its folder as --data"
    )

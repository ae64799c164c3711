"""From the folder of a trained run to a model that translates sentences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq import hub_utils
from fairseq.data import data_utils
from omegaconf import open_dict

from b2t_common.errors import InputError
from b2t_common.run_folder import BEST_FIRST, DICTIONARIES, SENTENCEPIECE

from . import checkpoints
from .decoding.search_settings import check_precision
from .decoding.shortlist import read
from .kernels.bfloat16 import to_bfloat16
from .kernels.quantized import quantize


def from_pretrained(
    model: str | Path,
    checkpoint_file: str | None = None,
    data: str | Path | None = None,
    int8: bool = False,
    shortlist: str | Path | None = None,
    bf16: bool = False,
    **overrides: Any,
) -> hub_utils.GeneratorHubInterface:
    """Return a model with its dictionaries and its SentencePiece, ready to ``translate``.

    Args:
        model: the folder of a run, or a checkpoint file.
        checkpoint_file: which checkpoint of the folder (default: the first of ``BEST_FIRST`` that is there); several,
            separated by colons, are an ensemble.
        data: the folder with the dictionaries (default: the model's folder if it has some, otherwise the data that
            the model was trained on).  A ``spm.model`` in it or beside it is used unless ``bpe`` is given.
        int8: translate on a CPU with 8-bit weights, in less time and memory, with slightly different scores.
        shortlist: a file of ``b2t shortlist``: translate with the target symbols that it has for the sentence.
        bf16: translate on a CPU with weights in bfloat16, likewise; for a GPU call the model's ``bfloat16()`` instead.
        **overrides: settings of the task or of the model, as on the command line: ``bpe``, ``tokenizer``.

    Raises:
        InputError: something is not there; the message says where it was looked for.  Or there are no 8-bit products,
            or the shortlist was made for other dictionaries.
    """
    check_precision([name for name, is_given in (("int8", int8), ("bf16", bf16)) if is_given], uses_gpu=False)
    model = Path(model)
    folder, files = (
        (model.parent, [model.name]) if model.is_file() else (model, checkpoint_names(model, checkpoint_file))
    )
    task = checkpoints.task_settings(checkpoints.load(folder / files[0]))
    data = dictionaries_of(folder, folder / files[0], task, None if data is None else Path(data))
    pieces = [
        path for path in (data / SENTENCEPIECE, data.parent / SENTENCEPIECE, folder / SENTENCEPIECE) if path.is_file()
    ]
    if "bpe" not in overrides and pieces:
        overrides |= {"bpe": "sentencepiece", "sentencepiece_model": str(pieces[0].resolve())}
    asked = languages(folder / files[0], data, {**task, **overrides})
    refuse_other_direction(folder / files[0], task, *asked)
    loaded = hub_utils.from_pretrained(
        str(folder.resolve()), checkpoint_file=":".join(files), data_name_or_path=str(data.resolve()), **overrides
    )
    for each in loaded["models"]:
        if int8:
            quantize(each)
        if bf16:
            to_bfloat16(each)
    if shortlist is not None:
        dictionaries = loaded["task"].source_dictionary, loaded["task"].target_dictionary
        read(shortlist).require_dictionaries(*dictionaries, f"shortlist {shortlist}")
        with open_dict(loaded["args"].generation):
            loaded["args"].generation.shortlist = str(shortlist)
    return hub_utils.GeneratorHubInterface(loaded["args"], loaded["task"], loaded["models"]).eval()


def checkpoint_names(folder: Path, asked: str | None = None) -> list[str]:
    """Return the names of the asked checkpoints, separated by colons, or of the first of ``BEST_FIRST`` there.

    Raises:
        InputError: they are not in the folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is neither such a run nor such a checkpoint")
    names = asked.split(":") if asked else BEST_FIRST
    present = [name for name in names if (folder / name).is_file()]
    if asked and present != names:
        missing = next(name for name in names if name not in present)
        raise InputError(f"{folder} has no {missing}; it has {', '.join(sorted(p.name for p in folder.glob('*.pt')))}")
    if not present:
        raise InputError(f"{folder} has none of {', '.join(BEST_FIRST)}; give the name of a checkpoint")
    return present if asked else present[:1]


def checkpoint_file(path: Path) -> Path:
    """Return the checkpoint at a path or, if the path is a folder, the best checkpoint of that run.

    Raises:
        InputError: there is none.
    """
    return path if path.is_file() else path / checkpoint_names(path)[0]


def languages(where: Path, data: Path, known: dict[str, Any]) -> tuple[str, str]:
    """Return from which language into which, as it is known or as the names of the data say.

    Args:
        where: what should have said it, for the message: a checkpoint, or the data.
        data: the folder of binarized data, or of dictionaries.
        known: ``source_lang`` and ``target_lang``; without both, the data say it.

    Raises:
        InputError: neither says it.
    """
    given = known.get("source_lang"), known.get("target_lang")
    source, target = given if all(given) else data_utils.infer_language_pair(data)
    if source is None or target is None:
        raise InputError(
            f'{where} does not say its languages; give source_lang="en", target_lang="de", for instance, or on '
            "the command line --source-lang en --target-lang de"
        )
    return source, target


def data_folder(task: Mapping[str, Any]) -> Path:
    """Return the folder of a task's data, the first one of several that a colon separates."""
    return Path(str(task.get("data") or "").split(":")[0])


def language_pair(task: Mapping[str, Any], data: Path | None) -> tuple[str | None, str | None]:
    """Return source and target language, ``None`` where nothing says it.

    Args:
        task: the settings of a task; fairseq stores in a checkpoint what was given.
        data: the folder whose names say it where ``task`` does not have both, ``None`` if they may not.
    """
    pair = task.get("source_lang"), task.get("target_lang")
    if not all(pair) and data is not None and data.is_dir():
        source, target = data_utils.infer_language_pair(str(data))
        return source, target
    return pair


def refuse_other_direction(checkpoint: Path, task: Mapping[str, Any], source: str, target: str) -> None:
    """Refuse to translate backwards; with a joined dictionary nothing else would tell.

    Args:
        checkpoint: the model's file, for the message.
        task: the settings of the task in it.
        source: from which language to translate.
        target: into which language.

    Raises:
        InputError: the model translates from ``target`` into ``source``.
    """
    data = data_folder(task)
    # a relative path may lead to other data today
    trained = language_pair(task, data if data.is_absolute() else None)
    if source != target and trained == (target, source):
        raise InputError(
            f"--source-lang {source} --target-lang {target}: {checkpoint} translates from {target} into {source}"
        )


def dictionaries_of(folder: Path, checkpoint: Path, task: dict[str, Any], data: Path | None = None) -> Path:
    """Return the folder of a model's dictionaries.

    Args:
        folder: the folder of the model.
        checkpoint: its checkpoint.
        task: the settings of the task in it.
        data: the folder, if it is given; ``None``: the model's own, or that of the data that it was trained on.

    Raises:
        InputError: there are no dictionaries.
    """
    data = data if data is not None else _trained_on(folder, checkpoint, task)
    if not list(data.glob(DICTIONARIES)):
        raise InputError(f"{data} has no dictionaries (dict.en.txt, ...); give the folder that has them as data")
    return data


def _trained_on(folder: Path, checkpoint: Path, task: dict[str, Any]) -> Path:
    """Return the folder of a model's dictionaries: its own, or that of its training data."""
    for own in (folder, folder / "data"):
        if list(own.glob(DICTIONARIES)):
            return own
    data = data_folder(task)
    if not data.is_dir():
        raise InputError(
            f"{checkpoint} was trained on {data}, which is not here; give the folder of its dictionaries as data"
        )
    return data

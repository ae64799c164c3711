"""The models that are analyzed, from checkpoints or fresh, and the sentences that they read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# before fairseq: on import fairseq logs a line, which would configure logging for the whole program
import b2t_fairseq  # noqa: F401

# isort: split
import numpy as np
from fairseq import checkpoint_utils, options, tasks, utils
from fairseq.data import FairseqDataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import nn

from b2t_common.errors import InputError
from b2t_common.model_line import sharing_flags
from b2t_fairseq import admin_profile, checkpoints
from b2t_fairseq.layer_stack import layer_stacks
from b2t_fairseq.residual import SCHEMES

# a layer that is computed again in the backward pass would be observed twice
_OBSERVABLE = {"checkpoint_activations": False, "offload_activations": False, "compile": False}
_MAX_TOKENS = 2048
"""The largest batch, in tokens, which limits the memory."""


@dataclass
class Subject:
    """A model with all that is needed to compute its loss on sentences.

    Attributes:
        name: what tables and figures call it.
        model: a model of this plugin.
        criterion: the criterion of its training.
        task: the task with its dictionaries.
        source: the ``checkpoint``, ``None`` for a fresh model, and the number of ``updates``, ``None`` if not known.
    """

    name: str
    model: BaseFairseqModel
    criterion: nn.Module
    task: FairseqTask
    source: dict[str, Any]

    @property
    def padding(self) -> int:
        return self.task.target_dictionary.pad()

    def description(self) -> dict[str, Any]:
        """Return what an analysis says of the model itself."""
        cfg = layer_stacks(self.model)[-1].cfg
        return {"name": self.name, "residual": cfg.residual, "layer_sharing": sharing_flags(vars(cfg)), **self.source}


def trained(name: str, path: Path, data: str) -> Subject:
    """Return the model of a checkpoint.

    Args:
        name: what to call the model.
        path: the checkpoint.
        data: fairseq's binary data in the languages of the training.

    Raises:
        InputError: the checkpoint is missing or not of this plugin, or its vocabulary is not that of the data.
    """
    state = checkpoints.load(path)
    try:
        with _needing_languages(data):
            models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
                [str(path)], arg_overrides={"data": data, **_OBSERVABLE}
            )
    except InputError as error:
        if "symbols, but the dictionary here" not in str(error):
            raise
        raise InputError(
            f"{path} has another vocabulary than --data {data}; give the data that it was trained on"
        ) from None
    updates = (state.get("optimizer_history") or [{}])[-1].get("num_updates")
    source = {"checkpoint": str(path), "updates": updates}
    return Subject(name, _require_ours(models[0], path), task.build_criterion(cfg.criterion), task, source)


def fresh(data: str, flags: list[str], residual: str | None) -> Subject:
    """Return a new model, the same with which ``b2t train`` would start.

    Args:
        data: fairseq's binary data.
        flags: the flags of ``b2t train``; those of the optimizer are not used.
        residual: the residual scheme, ``None`` for that of the flags.

    Raises:
        InputError: the flags are not those of a model of this plugin.
    """
    asked = [] if residual is None else ["--residual", residual]
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=[data, *flags, *asked])
    for name, value in _OBSERVABLE.items():
        setattr(args, name, value)
    cfg = convert_namespace_to_omegaconf(args)
    utils.set_torch_seed(cfg.common.seed)
    with _needing_languages(data):
        task = tasks.setup_task(cfg.task)
    try:
        model = _require_ours(task.build_model(cfg.model), f"--arch {args.arch}")
    except ValueError as error:
        raise InputError(str(error)) from None
    name = layer_stacks(model)[-1].plan.scheme.title
    return Subject(name, model, task.build_criterion(cfg.criterion), task, {"checkpoint": None, "updates": 0})


def schemes(asked: str | None) -> list[str | None]:
    """Return the schemes that ``--residual`` names.

    Args:
        asked: ``all``, names with commas between them, or ``None`` for the scheme of the flags.

    Raises:
        InputError: a scheme is unknown.
    """
    if asked is None:
        return [None]
    names = list(SCHEMES) if asked == "all" else asked.split(",")
    for name in names:
        if name not in SCHEMES:
            raise InputError(
                f"--residual {asked}: unknown scheme {name!r}; choose some of {', '.join(SCHEMES)}, or all"
            )
    return list(dict.fromkeys(names))


def batches(subject: Subject, subset: str, tokens: int, device: str) -> Iterator[dict]:
    """Yield batches of a subset; every model that can read the same sentences gets the same batches.

    Args:
        subject: the model.
        subset: part of the data, such as ``valid``.
        tokens: the number of target tokens after which no further batch follows.
        device: ``"cuda"`` or ``"cpu"``.

    Raises:
        InputError: the data have no such subset, or it has no sentence that the model can read.
    """
    task = subject.task
    try:
        task.load_dataset(subset)
    except FileNotFoundError as error:
        raise InputError(f"--subset {subset}: {error}; give a part that the data have, such as valid or test") from None
    dataset = task.dataset(subset)
    max_positions = utils.resolve_max_positions(task.max_positions(), subject.model.max_positions())
    readable, _ = dataset.filter_indices_by_size(np.arange(len(dataset)), max_positions)
    if not len(readable):
        raise InputError(
            f"--subset {subset} has no sentence that {subject.name} can read, of {max_positions} tokens at most; "
            "choose another subset"
        )
    iterator = task.get_batch_iterator(
        dataset=dataset,
        # fairseq requires that each sentence fits into a batch
        max_tokens=max(min(tokens, _MAX_TOKENS), _longest(dataset, readable)),
        max_positions=max_positions,
        ignore_invalid_inputs=True,
        required_batch_size_multiple=1,
        seed=1,
    ).next_epoch_itr(shuffle=True)
    seen = 0
    for batch in iterator:
        if seen >= tokens:
            return
        seen += batch["ntokens"]
        yield utils.move_to_cuda(batch) if device == "cuda" else batch


def profile(subject: Subject, batch: dict) -> None:
    """Set Admin's omegas in a fresh model as its training would: from its profile, or from one batch.

    A model of another scheme, or one that is trained, stays as it is.

    Raises:
        InputError: the profile does not fit the model.
    """
    if admin_profile.is_profiled(subject.model):
        return
    path = getattr(layer_stacks(subject.model)[-1].cfg, "admin_profile", None)
    if path and Path(path).exists():
        admin_profile.read(subject.model, path)
    else:
        admin_profile.measure(subject.model.train(), batch["net_input"])


def _longest(dataset: FairseqDataset, indices: np.ndarray) -> int:
    try:
        return int(dataset.num_tokens_vec(indices).max())
    except NotImplementedError:
        return max(map(dataset.num_tokens, indices))


@contextmanager
def _needing_languages(data: str) -> Iterator[None]:
    """Raise InputError with the name of the data if fairseq cannot infer their languages."""
    try:
        yield
    except Exception as error:
        # fairseq raises a plain Exception
        if "infer language pair" not in str(error):
            raise
        raise InputError(
            f"--data {data} has no data of two languages, such as valid.en-de.en.bin; give the folder that "
            "fairseq-preprocess has written"
        ) from None


def _require_ours(model: nn.Module, where: str | Path) -> nn.Module:
    if not layer_stacks(model):
        raise InputError(
            f"{where} is a {type(model).__name__}, not a model of this plugin; --arch b2t_transformer, "
            "b2t_transformer_lm and b2t_s2t_transformer are"
        )
    return model.float()

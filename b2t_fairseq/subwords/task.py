"""The flags of ``--subword-sampling`` for fairseq's translation task, which keeps its name in checkpoints."""

import functools
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import torch
from fairseq import utils
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from hydra.core.config_store import ConfigStore
from omegaconf import II

from b2t_common.errors import InputError
from b2t_common.names import flag

from . import models
from .data import SampledPairs, SampledSide, require_model_of_data

logger = logging.getLogger(__name__)

NAME = "translation"
NONE = "none"
"""For a side that is not drawn."""


# fairseq reads the types of the fields, so annotations must not be postponed in this file
@dataclass
class SamplingTranslationConfig(TranslationConfig):
    """The flags of fairseq's translation task, and those of the pieces that are drawn."""

    subword_sampling: Optional[str] = field(
        default=None,
        metadata={
            "help": "draw the pieces of the training data anew in every epoch: alpha of a unigram model, or the "
            "dropout of BPE; SOURCE/TARGET gives each side its own, as in 0.1/none"
        },
    )
    subword_model: Optional[str] = field(
        default=None,
        metadata={"help": "the model of the pieces (default: spm.model or bpe.codes in the folder of the data)"},
    )
    target_subword_model: Optional[str] = field(
        default=None, metadata={"help": "that of the target, if the sides have different ones"}
    )
    seed: int = II("common.seed")


def add_flags() -> None:
    """Give fairseq's translation task the flags, on the command line and in YAML files."""
    setattr(TranslationTask, "__dataclass", SamplingTranslationConfig)
    TASK_DATACLASS_REGISTRY[NAME] = SamplingTranslationConfig
    node = SamplingTranslationConfig()
    node._name = NAME
    ConfigStore.instance().store(name=NAME, group="task", node=node, provider="fairseq")


def with_sampled_training_data(load_dataset):
    """Return ``TranslationTask.load_dataset`` whose training data has other pieces in every epoch."""

    @functools.wraps(load_dataset)
    def wrapper(self, split, epoch=1, combine=False, **kwargs):
        strengths = parse(getattr(self.cfg, "subword_sampling", None)) if split == self.cfg.train_subset else {}
        if strengths:
            refuse_what_needs_fixed_pieces(self.cfg)
        load_dataset(self, split, epoch, combine, **kwargs)
        if strengths:
            self.datasets[split] = sampled(self, self.datasets[split], strengths)

    return wrapper


def parse(text: str | None) -> dict[str, float]:
    """Return by side, ``src`` and ``tgt``, how strongly its pieces are drawn; nothing for a side that is not drawn.

    Raises:
        InputError: the text is neither a number nor two.
    """
    if text is None:
        return {}
    values = str(text).split("/")
    try:
        numbers = [None if value == NONE else float(value) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise InputError(f"--subword-sampling {text}: give a number, or SOURCE/TARGET, each a number or {NONE}")
    strengths = zip(("src", "tgt"), numbers * (3 - len(numbers)), strict=True)
    return {side: number for side, number in strengths if number is not None}


def refuse_what_needs_fixed_pieces(cfg) -> None:
    """Check that no other flag needs the same pieces in every epoch.

    Raises:
        InputError: one does.
    """
    for name in ("load_alignments", "num_batch_buckets"):
        if getattr(cfg, name):
            raise InputError(
                f"--subword-sampling {cfg.subword_sampling} cannot work with {flag(name)}, which needs the same pieces "
                "in every epoch"
            )


def sampled(task, pairs, strengths: dict[str, float]) -> SampledPairs:
    """Return training data whose pieces are drawn.

    Args:
        task: fairseq's translation task.
        pairs: its training data.
        strengths: by side, ``src`` and ``tgt``.

    Raises:
        InputError: there is no model of the pieces, or it is not that of the data.
    """
    cfg = task.cfg
    # the processes that load data live for several epochs
    epoch = torch.ones(1, dtype=torch.long).share_memory_()
    sides = {}
    for name, strength in strengths.items():
        dictionary, language = (task.src_dict, cfg.source_lang) if name == "src" else (task.tgt_dict, cfg.target_lang)
        pieces = models.read(_model(cfg, name), dictionary, strength)
        sentences, sizes = getattr(pairs, name), getattr(pairs, f"{name}_sizes")
        key = f"{cfg.seed} {name}"
        side = SampledSide(sentences, sizes, pieces, dictionary.eos(), key, epoch)
        require_model_of_data(side, f"--subword-sampling {cfg.subword_sampling}", language)
        logger.info(
            f"--subword-sampling {strength:g} of {language} by {pieces.path}: sentences become {side.ratio:.2f} times "
            f"as long, and batches are made for {side.sizes.sum() / side.own_sizes.sum():.2f} times the length"
        )
        sides[name] = side
    return SampledPairs(pairs, sides, epoch)


def _model(cfg, side: str) -> Path:
    given = (cfg.target_subword_model if side == "tgt" else None) or cfg.subword_model
    folder = Path(utils.split_paths(cfg.data)[0])
    path = Path(given) if given else models.find(folder)
    if path is None:
        raise InputError(
            f"--subword-sampling {cfg.subword_sampling} needs the model of the pieces, but there is no spm.model and "
            f"no bpe.codes in {folder} or beside it; give it by --subword-model"
        )
    if not path.is_file():
        name = "target_subword_model" if side == "tgt" and cfg.target_subword_model else "subword_model"
        raise InputError(f"{flag(name)} {path}: no such file")
    return path

"""What a converted checkpoint contains besides its weights, in the format of today's fairseq."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, cast

from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.registry import REGISTRIES
from omegaconf import OmegaConf
from torch import nn

from b2t_fairseq.models.transformer import B2TTransformerModel


def names(settings: Mapping[str, Any]) -> set[str]:
    """Return the names of all settings, at any depth."""
    nested = [names(value) for value in settings.values() if isinstance(value, dict)]
    return set(settings).union(*nested)


def config(args: Namespace, settings: Mapping[str, Any], model: B2TTransformerModel) -> dict[str, Any]:
    """Return all settings in the format of today's fairseq, those of the training too.

    The releases distribute label smoothing over all V symbols, fairseq over the V - 1 wrong ones.  The weight is
    multiplied by (V - 1) / V, so that fairseq computes the loss of the releases.

    Args:
        args: the settings of the release.
        settings: the flags of the converted model.
        model: the converted model.
    """
    symbols = model.decoder.output_projection.weight.size(0)
    smoothing = getattr(args, "label_smoothing", 0.0) * (symbols - 1) / symbols
    changed = {"arch": "b2t_transformer", "tpu": False, "user_dir": None, "label_smoothing": smoothing}
    args = Namespace(**{**vars(args), **settings, **changed})
    for name, registry in REGISTRIES.items():
        if getattr(args, name, None) not in (None, *registry["registry"]):
            delattr(args, name)  # for instance an optimizer that only the release has
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fairseq uses hydra in a way that is deprecated
        cfg = convert_namespace_to_omegaconf(args)
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))


def checkpoint(state: Mapping[str, Any], cfg: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return a checkpoint for inference and fine-tuning: without optimizer state, and at the beginning of the data."""
    old = state.get("extra_state") or {}
    results = {name: old[name] for name in ("val_loss", "best") if name in old}
    return {
        "args": None,
        "cfg": cfg,
        "model": model.state_dict(),
        "criterion": None,
        "optimizer_history": state.get("optimizer_history"),
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "shuffle": True}, **results},
        "last_optimizer_state": None,
    }

"""Converts a checkpoint of this plugin into one of fairseq's own ``transformer``, which other programs read."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from fairseq.models import ARCH_MODEL_REGISTRY

from b2t_common.errors import InputError
from b2t_common.names import flag
from b2t_fairseq.checkpoints import flat_settings
from b2t_fairseq.normalization import DEFAULT
from b2t_fairseq.residual import stock_scheme
from b2t_fairseq.settings.fields import own_fields
from b2t_fairseq.settings.plan import plan_translation

from .building import build, settings_of
from .checking import Batch, check

ARCHITECTURE = "transformer"
_SCHEMES = (stock_scheme(normalize_before=False), stock_scheme(normalize_before=True))
_PLUGIN_FLAGS = frozenset(name for name, *_ in own_fields())


def to_stock(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the checkpoint for fairseq without this plugin, and a report in lines.

    Shared layers become separate layers: each of the N layers has its own parameters.

    Args:
        state: a checkpoint of this plugin.

    Raises:
        InputError: fairseq does not have the residual scheme, or the checkpoint is of another model.
    """
    given = settings_of(state)
    for name in ("encoder_layers_to_keep", "decoder_layers_to_keep"):
        if given.get(name):
            raise InputError(f"{flag(name)} {given[name]}: pruned models are not converted")
    plan = plan_translation(Namespace(**given))
    settings, scheme = vars(plan.settings), plan.stacks[0].scheme
    if scheme not in _SCHEMES:
        raise InputError(
            f"--residual {scheme.name} cannot be written as fairseq's own transformer, which has only "
            f"{' and '.join(f'{known.title}, {known.equation}' for known in _SCHEMES)}; without {scheme.title}, "
            f"{scheme.equation}, it would translate wrongly; use fairseq-generate with this plugin, or --to safetensors"
        )
    if settings["norm"] != DEFAULT:
        raise InputError(
            f"--norm {settings['norm']} cannot be written as fairseq's own transformer, which has --norm {DEFAULT} "
            "only; use fairseq-generate with this plugin, or --to safetensors"
        )
    stock = {name: value for name, value in settings.items() if name not in _PLUGIN_FLAGS and value is not None}
    normalize_before = scheme is stock_scheme(normalize_before=True)
    stock["encoder_normalize_before"] = stock["decoder_normalize_before"] = normalize_before
    stock["_name"] = stock["arch"] = ARCHITECTURE
    model = build(settings, state["model"])
    written = build(stock, model.state_dict(), ARCH_MODEL_REGISTRY[ARCHITECTURE])
    batch = Batch(model.state_dict())
    difference = check(batch.log_probabilities(written), batch.log_probabilities(model), "the plugin's model")
    ours, theirs = (sum(parameter.numel() for parameter in each.parameters()) for each in (model, written))
    report = [
        f"fairseq's transformer, {scheme.title}, {theirs:,} parameters ({ours:,} with --layer-sharing "
        f"{plan.sharing_flags})",
        f"checked: log-probabilities of {batch.tokens} tokens are those of the plugin's model within {difference:.1e}",
    ]
    task = flat_settings(state["cfg"]["task"])
    # as fairseq-train stores this model: one namespace of all settings, which CTranslate2 reads too
    model_settings = Namespace(**{**task, **stock, "task": task["_name"]})
    cfg = {**state["cfg"], "model": model_settings}
    return {**state, "cfg": cfg, "args": None, "model": written.state_dict(), "last_optimizer_state": None}, report

"""Converts a checkpoint of either release into one of this plugin, and checks it with the release's formulas."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from b2t_common.errors import InputError
from b2t_common.names import flag
from b2t_fairseq.checkpoints import model_settings

from . import layer_sets
from .building import build
from .checking import Batch, check
from .flags import B2T_FLAG, SHARING_FLAG, read_flags, unknown_settings
from .modern import checkpoint, config, names
from .weights import translated, weights_of


def is_release(state: Mapping[str, Any]) -> bool:
    """Return whether the settings of a checkpoint are one namespace with the own flags of a release."""
    args = state.get("args")
    return isinstance(args, Namespace) and (hasattr(args, B2T_FLAG) or hasattr(args, SHARING_FLAG))


def convert(state: Mapping[str, Any], retie: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Return a checkpoint of this plugin, for inference and fine-tuning, and a report in lines.

    Args:
        state: the checkpoint of a release, which :func:`~b2t_cli.conversion.reading.read` has returned.
        retie: share all that the sharing release was meant to share, which changes the function of the model.

    Raises:
        InputError: this plugin does not support the model, or the checkpoint contradicts itself.
    """
    args = _old_settings(state)
    flags = read_flags(args)
    original, unused = weights_of(state["model"], flags.norms)
    plan = layer_sets.plan(flags, original, retie)
    settings = {**flags.settings, **plan.flags}
    shares_output = settings.get("share_decoder_input_output_embed") or settings.get("share_all_embeddings")
    model = build(settings, translated(plan.weights, bool(shares_output)))
    batch = Batch(plan.weights)
    theirs = batch.release_log_probabilities(flags, plan.weights)
    difference = check(batch.log_probabilities(model), theirs, "the release's formulas")
    cfg = config(args, settings, model)
    unknown = unknown_settings(args, names(cfg))
    report = [
        f"--residual {settings['residual']} {_sharing_text(plan.flags)}; "
        f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters",
        *plan.report,
        *flags.notes,
    ]
    if unknown:
        report.append(f"settings not known here and left out: {', '.join(unknown)}")
    if unused:
        report.append(f"not used by the release either, and left out: {len(unused)} tensors of norms")
    report.append(
        f"checked: all {len(original)} tensors used once; log-probabilities of {batch.tokens} tokens are those of the "
        f"release's formulas within {difference:.1e}"
    )
    if plan.weights is not original:
        change = (theirs - batch.release_log_probabilities(flags, original)).abs()
        report.append(
            f"--retie changes the model's function: these log-probabilities move by {change.mean().item():.2g} on "
            f"average, at most {change.max().item():.2g}; validate or fine-tune it before use"
        )
    report.append("for inference and fine-tuning: the optimizer's state is not converted")
    return checkpoint(state, cfg, model), report


def _old_settings(state: Mapping[str, Any]) -> Namespace:
    """Return a copy of the settings that fairseq 0.8 or 0.9 has stored."""
    if "residual" in model_settings(state):
        raise InputError("it is already of this plugin; choose --to stock or --to safetensors")
    if not isinstance(state.get("args"), Namespace):
        raise InputError("it has no settings of fairseq 0.8 or 0.9 (args), so it is of neither release")
    return Namespace(**vars(state["args"]))


def _sharing_text(flags: Mapping[str, Any]) -> str:
    if not flags:
        return "without sharing"
    return " ".join(f"{flag(name)} {value}" for name, value in flags.items())

"""A checkpoint of either release as one of this plugin, checked against the release's formulas."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.registry import REGISTRIES
from omegaconf import OmegaConf
from torch import Tensor, nn

from ..errors import InputError
from . import layer_sets
from .building import build
from .checking import Batch, check
from .flags import B2T_FLAG, SHARING_FLAG, ReleaseFlags, read_flags
from .weights import translated, weights_of

def is_release(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds its settings as one namespace with a release's own flags."""
    args = state.get("args")
    return isinstance(args, Namespace) and (hasattr(args, B2T_FLAG) or hasattr(args, SHARING_FLAG))


def convert(state: Mapping[str, Any], retie: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Return a release's checkpoint as one of this plugin, for inference and fine-tuning, and a report in lines.

    Args:
        state: what :func:`~b2t_fairseq.conversion.reading.read` returned.
        retie: share properly what the sharing release meant to share, which changes the model's function.

    Raises:
        InputError: what it holds cannot be expressed here, or it contradicts itself.
    """
    if not isinstance(state.get("args"), Namespace):
        raise InputError("it has no settings of fairseq 0.8 or 0.9 (args), so it is of neither release")
    args = Namespace(**vars(state["args"]))
    flags = read_flags(args, _names(_modern(args)))
    original = weights_of(state["model"])
    weights, sharing_flags, report = _sharing(flags, original, retie)
    settings = {**flags.settings, **sharing_flags}
    tensors = translated(weights, _shares_output(args))
    model = build(settings, tensors)
    batch = Batch(weights)
    theirs = batch.release_log_probabilities(flags, weights)
    difference = check(batch.log_probabilities(model), theirs, "the release's formulas")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    report = [
        f"--residual {settings['residual']} {_sharing_text(settings)}; {parameters:,} parameters; {len(original)} "
        "tensors, each used once",
        *report,
        *flags.notes,
        f"checked: log-probabilities of {batch.tokens} tokens are those of the release's formulas within {difference:.1e}",
    ]
    if weights is not original:
        change = (theirs - batch.release_log_probabilities(flags, original)).abs()
        report.append(
            f"--retie changes the model's function: these log-probabilities move by {change.mean().item():.2g} on "
            f"average, at most {change.max().item():.2g}; fine-tune or validate it before use"
        )
    report.append("for inference and fine-tuning: a release's optimizer state is not converted")
    cfg = _config(args, settings, model)
    return _checkpoint(state, cfg, model), report


def _sharing(
    flags: ReleaseFlags, weights: dict[str, Tensor], retie: bool
) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Return the weights (changed only by ``retie``), this plugin's sharing flags, and what is to be said."""
    num_layers = {stack: getattr(flags.args, f"{stack}_layers") for stack in layer_sets.STACKS}
    layers = {stack: layer_sets.layers_of(weights, stack, n) for stack, n in num_layers.items()}
    if flags.sharing is None:
        if retie:
            raise InputError(f"--retie is for models that share layers; this one has no {SHARING_FLAG}")
        return weights, {}, []
    k, share_type = flags.sharing
    indices = {stack: layer_sets.release_indices(share_type, n, k) for stack, n in num_layers.items()}
    for stack in layer_sets.STACKS:
        layer_sets.check_sharing(layers[stack], indices[stack], stack)
    slipped = layer_sets.slips(layers["decoder"], indices["decoder"])
    if all(len(set(listed)) == len(listed) for listed in indices.values()):
        return weights, {}, [f"--share-layer-num {k} of {num_layers} layers shares nothing"]
    sharing_flags = layer_sets.as_flags(share_type, indices)
    if sharing_flags is None:
        reason = (
            f"--share-type {share_type} --share-layer-num {k} of {num_layers['encoder']} and {num_layers['decoder']} "
            "layers has an order that no --layer-sharing has"
        )
        if retie:
            raise InputError(f"{reason}, so --retie cannot tie it; leave it out for an untied model")
        return weights, {}, [f"untied, to keep the function exactly: {reason}"]
    listed = ", ".join(map(str, slipped))
    if slipped and not retie:
        return weights, {}, [
            f"untied, to keep the function exactly: in the decoder layers {listed}, copies, the release's "
            "cross-attention uses the input bias of the base layer's self-attention, which no sharing of whole layers "
            "expresses; --retie writes the properly tied model, which translates differently"
        ]
    if not slipped:
        return weights, sharing_flags, ["--retie changed nothing: the layers share properly"] if retie else []
    name = "decoder.layers.{}.encoder_attn.in_proj_bias"
    tied = layer_sets.retied(weights, indices["decoder"], slipped)
    largest = max((tied[name.format(d)] - weights[name.format(d)]).abs().max().item() for d in slipped)
    said = (
        f"--retie: the cross-attention input biases (query, key, value) of the decoder layers {listed} are now those "
        f"of their base layers; largest change of a bias {largest:.2g}"
    )
    return tied, sharing_flags, [said]


def _shares_output(args: Namespace) -> bool:
    return bool(getattr(args, "share_decoder_input_output_embed", False) or getattr(args, "share_all_embeddings", False))


def _sharing_text(settings: Mapping[str, Any]) -> str:
    if "layer_sharing" not in settings:
        return "without sharing"
    sets = " ".join(f"--{stack}-unique-layers {settings[f'{stack}_unique_layers']}" for stack in layer_sets.STACKS)
    return f"--layer-sharing {settings['layer_sharing']} {sets}"


def _names(settings: Mapping[str, Any]) -> set[str]:
    """Return the names of all settings, at any depth."""
    nested = [_names(value) for value in settings.values() if isinstance(value, dict)]
    return set(settings).union(*nested)


def _modern(args: Namespace) -> dict[str, Any]:
    """Return all settings as today's fairseq stores them."""
    args = Namespace(**{**vars(args), "arch": "b2t_transformer", "tpu": False, "user_dir": None})
    for name, registry in REGISTRIES.items():
        # training with what only the fork has leaves no trace in the model's function
        if getattr(args, name, None) not in (None, *registry["registry"]):
            delattr(args, name)
    return OmegaConf.to_container(convert_namespace_to_omegaconf(args), resolve=True, enum_to_str=True)


def _config(args: Namespace, settings: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return the settings of the converted checkpoint.

    The releases spread label smoothing over all V symbols, fairseq over the V - 1 others; a weight smaller by
    (V - 1) / V gives with fairseq the releases' loss.
    """
    symbols = model.decoder.output_projection.weight.size(0)
    smoothing = getattr(args, "label_smoothing", 0.0) * (symbols - 1) / symbols
    cfg = _modern(Namespace(**{**vars(args), **settings, "label_smoothing": smoothing}))
    cfg["model"] = {**cfg["model"], **{name: settings[name] for name in settings if name in cfg["model"]}}
    return cfg


def _checkpoint(state: Mapping[str, Any], cfg: dict[str, Any], model: nn.Module) -> dict[str, Any]:
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

"""Converts a trained Pre-LN model into the Pre-RMSNorm model that computes the same.

Jiang et al. 2023 (arXiv 2305.14858), section 3: LayerNorm is RMSNorm of a vector from which its mean is subtracted.  In
a Pre-LN stack every reader of the residual stream is a LayerNorm, so that what is added to the stream may have its mean
subtracted beforehand: the embedding with its positions, and the outputs of attention and feed-forward sub-layers, whose
last linear maps are changed once.  Then all LayerNorms are RMSNorms.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from b2t_common.errors import InputError
from b2t_common.names import spelled
from b2t_fairseq.checkpoints import with_changes
from b2t_fairseq.normalization import DEFAULT, RMSNorm
from b2t_fairseq.residual import stock_scheme
from b2t_fairseq.settings.plan import plan_translation

from .building import build, settings_of
from .checking import Batch, check

_LAST_LINEAR = re.compile(r"(?:encoder|decoder)\.layers\.\d+\.(?:\w+_attn\.out_proj|fc2)\.(?:weight|bias)")
_REFUSED = {
    "encoder_layers_to_keep": "pruned models are not converted",
    "decoder_layers_to_keep": "pruned models are not converted",
    "no_decoder_final_norm": "the output layer would see the mean of the residual stream, which the new model removes",
    "layernorm_embedding": "the input of that norm has a mean, so it cannot become an RMSNorm",
}


def to_pre_rms_norm(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the checkpoint of the equal Pre-RMSNorm model, in float32, and a report in lines.

    Args:
        state: a checkpoint of this plugin.

    Raises:
        InputError: it is no Pre-LN model with LayerNorms; the message says why it cannot be converted.
    """
    given = settings_of(state)
    plan = plan_translation(Namespace(**given))
    settings, scheme, pre_ln = vars(plan.settings), plan.stacks[0].scheme, stock_scheme(normalize_before=True)
    if scheme is not pre_ln:
        raise InputError(
            f"--residual {scheme.name} cannot be written with RMSNorms: only in {pre_ln.title}, {pre_ln.equation}, "
            "does nothing but norms read the residual stream, so that its mean has no influence; train "
            f"{scheme.title} with --norm {RMSNorm.name} instead"
        )
    if settings["norm"] != DEFAULT:
        raise InputError(f"--norm {settings['norm']}: only models with --norm {DEFAULT} are converted")
    for name, reason in _REFUSED.items():
        if settings.get(name):
            raise InputError(f"{spelled(name, settings[name])}: {reason}")
    tensors = {name: tensor.float() for name, tensor in state["model"].items()}
    changed = {"norm": RMSNorm.name, "rms_norm_bias": True, "center_embedding": True}
    model, written = build(settings, tensors), build({**settings, **changed}, _without_means(tensors))
    batch = Batch(tensors)
    difference = check(batch.log_probabilities(written), batch.log_probabilities(model), "the Pre-LN model")
    report = [
        f"Pre-RMSNorm, {sum(parameter.numel() for parameter in written.parameters()):,} parameters as before",
        f"checked: log-probabilities of {batch.tokens} tokens are those of the Pre-LN model within {difference:.1e}",
    ]
    cfg = {**state["cfg"], "model": with_changes(state["cfg"]["model"], changed)}
    return {**state, "cfg": cfg, "model": written.state_dict(), "last_optimizer_state": None}, report


def _without_means(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Subtract, from each output of attention and feed-forward sub-layers, its mean over the elements of the output."""
    result = dict(tensors)
    for name, tensor in tensors.items():
        if _LAST_LINEAR.fullmatch(name):
            exact = tensor.double()
            result[name] = (exact - exact.mean(dim=0, keepdim=True)).to(tensor.dtype)
    return result

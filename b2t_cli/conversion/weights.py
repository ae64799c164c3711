"""Translates the parameter names and layouts of the releases into those of today's fairseq."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from b2t_common.errors import InputError
from b2t_common.names import STACKS

# the vectors of Admin's ratios in the order of the sub-layers, by stack
RATIOS = {
    "encoder": ("attention_ratio_change", "fc_ratio_change"),
    "decoder": ("self_ratio_change", "encoder_ratio_change", "fc_ratio_change"),
}
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")


def weights_of(model: Mapping[str, Tensor], norms: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Return the parameters of a release, without version numbers and an uninitialized buffer; and unused names.

    Args:
        model: the tensors in the checkpoint.
        norms: whether the layers use LayerNorm; if not, the names of its parameters are returned as unused.

    Raises:
        InputError: the model has no encoder, or its layers are of a version that neither release writes.
    """
    if not any(name.startswith("encoder.") for name in model):
        raise InputError("it has no encoder: a language model of the release, which is not converted")
    for stack in STACKS:
        version = model.get(f"{stack}.version")
        if version is None or version.flatten()[0].item() != 3:
            raise InputError(f"{stack}.version is {None if version is None else version.tolist()}, not 3")
    unused = [name for name in model if _LAYER.fullmatch(name) and "_layer_norm." in name] if not norms else []
    left_out = {*unused, *(name for name in model if name.endswith((".version", "._float_tensor")))}
    return {name: tensor for name, tensor in model.items() if name not in left_out}, unused


def translated(weights: Mapping[str, Tensor], shares_output: bool) -> dict[str, Tensor]:
    """Return the parameters under today's names; each tensor of the release is used exactly once.

    Args:
        weights: what :func:`weights_of` has returned.
        shares_output: whether the output layer is the embedding of the decoder, which then has two names.

    Raises:
        InputError: a layer has only some of Admin's ratios.
    """
    result: dict[str, Tensor] = {}
    ratios: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        in_layer = _LAYER.fullmatch(name)
        if in_layer and in_layer[3].endswith("ratio_change"):
            ratios.setdefault((in_layer[1], in_layer[2]), {})[in_layer[3]] = tensor
        elif name.endswith(("in_proj_weight", "in_proj_bias")):
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                result[name.replace("in_proj_", f"{part}_proj.")] = chunk
        else:
            # the B2T release renamed the decoder's positions; an output layer that is not shared was a single parameter
            name = name.replace("embed_positions_original", "embed_positions")
            result["decoder.output_projection.weight" if name == "decoder.embed_out" else name] = tensor
    for (stack, depth), vectors in ratios.items():
        if vectors.keys() != set(RATIOS[stack]):
            raise InputError(
                f"{stack} layer {depth} has the ratios {', '.join(vectors)}, not {', '.join(RATIOS[stack])}"
            )
        prefix = f"{stack}.layers.{depth}.residual"
        result[f"{prefix}.omega"] = torch.stack([vectors[name] for name in RATIOS[stack]])
        result[f"{prefix}.profiled"] = torch.tensor(1.0)
    if shares_output:
        result["decoder.output_projection.weight"] = weights["decoder.embed_tokens.weight"]
    return {**result, "encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}

"""The releases' parameter names and layouts, and today's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from b2t_common.errors import InputError
from b2t_common.names import STACKS

# per stack, Admin's ratio vectors in the order of the sub-layers
RATIOS = {
    "encoder": ("attention_ratio_change", "fc_ratio_change"),
    "decoder": ("self_ratio_change", "encoder_ratio_change", "fc_ratio_change"),
}
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")


def weights_of(model: Mapping[str, Tensor], norms: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Return a release's parameters without what is no weight: version numbers and an uninitialized buffer.

    Args:
        model: what the release stored.
        norms: false if the release's layers use no LayerNorm; the names of theirs are returned apart.

    Raises:
        InputError: a model without encoder, or of a version of the layers' layout that neither release writes.
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
    """Return the parameters under today's names: each tensor of the release is used exactly once.

    Args:
        weights: what :func:`weights_of` returned.
        shares_output: whether the output layer is the decoder's embedding, which then has two names.

    Raises:
        InputError: a layer has some of Admin's ratios and not the others.
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
            # b2t renames the decoder's positions; without a shared embedding the output layer was a bare parameter
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

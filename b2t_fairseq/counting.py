"""The parameters of a trained model, and the floating-point operations (FLOPs) of a model, from its plan.

Counted are the matrix products, 2 FLOPs for each multiply-add: projections, attention scores and values, feed-forward,
output layer.  Not counted are biases, norms, softmax, activations, dropout, residual sums, embedding lookups, the loss
and the optimizer, whose share is small.  Also not counted is what is computed a second time: fused attention and
``--checkpoint-activations`` do so in the backward pass.

Every position counts, padding too; the causal mask saves nothing.  Layers that share parameters compute as much as
layers that do not.  Dropped layers (LayerDrop) count as if they were kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from b2t_common.errors import InputError

from .settings.plan import Plan

# Names of buffers that fairseq and the schemes store beside the parameters.
_BUFFERS = frozenset({"version", "_float_tensor", "profiled", "update"})
_LAYER = re.compile(r"(encoder|decoder)\.(?:transformer_)?layers\.(\d+)\.(.+)")


def count_parameters(plan: Plan, tensors: Mapping[str, Tensor]) -> int:
    """Return the number of parameters of a trained model, tied ones counted once, as its log has it.

    Which parameters are tied follows from the plan, not from equal values: equal tensors need not be tied, and NaN in a
    diverged model is not equal to itself.

    Args:
        plan: the plan of the model.
        tensors: the model of a checkpoint, by name.
    """
    owners = {_owner(plan, name): tensor for name, tensor in tensors.items() if name.split(".")[-1] not in _BUFFERS}
    return sum(tensor.numel() for tensor in owners.values())


def _owner(plan: Plan, name: str) -> str:
    """Return the name of the parameter to which a parameter is tied; its own name if it is tied to none."""
    if layer := _LAYER.fullmatch(name):
        stack, depth, rest = layer.groups()
        sharing = plan.stack(stack).sharing
        # The parameters of a residual scheme belong to a depth, those of its norms do not.
        if re.fullmatch(r"residual\.\w+", rest) or not sharing.includes(rest):
            return name
        owner = plan.stacks[0].name if sharing.includes_in_common(rest) else stack
        return f"{owner}.{sharing.indices[int(depth)]}.{rest}"
    settings = plan.settings
    shares_all = getattr(settings, "share_all_embeddings", False)
    if name == "decoder.output_projection.weight" and (shares_all or settings.share_decoder_input_output_embed):
        name = "decoder.embed_tokens.weight"
    if name == "decoder.embed_tokens.weight" and (shares_all or getattr(settings, "merge_src_tgt_embed", False)):
        name = "encoder.embed_tokens.weight"
    return name


def training_flops(plan: Plan, vocab_size: int, batch: int, src_len: int, tgt_len: int) -> int:
    """Return the FLOPs of one training step, forward and backward; see :func:`forward_flops` for the arguments.

    That is three times the forward pass: for each product of two matrices the backward pass computes two of the same
    size, the gradients of both.
    """
    # No gradient reaches an encoder at which no decoder layer looks.
    encoder_is_used = plan.settings.cross_self_attention or not plan.settings.no_cross_attention
    encoder = encoder_flops(plan, batch, src_len) * (3 if encoder_is_used else 1)
    return encoder + 3 * decoder_flops(plan, vocab_size, batch, src_len, tgt_len)


def forward_flops(plan: Plan, vocab_size: int, batch: int, src_len: int, tgt_len: int) -> int:
    """Return the FLOPs of one forward pass, from ``(batch, src_len)`` and ``(batch, tgt_len)`` tokens to the logits.

    Args:
        plan: the plan of a translation model.
        vocab_size: symbols of the target dictionary.
        batch: sentence pairs.
        src_len: length of the source sentences in tokens.
        tgt_len: length of the target sentences in tokens.

    Raises:
        InputError: the model has an adaptive softmax, whose cost depends on the words.
    """
    return encoder_flops(plan, batch, src_len) + decoder_flops(plan, vocab_size, batch, src_len, tgt_len)


def encoder_flops(plan: Plan, batch: int, src_len: int) -> int:
    """Return the FLOPs of the encoder's forward pass; see :func:`forward_flops` for the arguments."""
    dim = plan.settings.encoder_embed_dim
    layer = _attention(batch, src_len, src_len, dim, dim)
    layer += _feed_forward(batch * src_len, dim, plan.settings.encoder_ffn_embed_dim)
    return len(plan.stack("encoder").indices) * layer


def decoder_flops(plan: Plan, vocab_size: int, batch: int, src_len: int, tgt_len: int) -> int:
    """Return the FLOPs of the decoder's forward pass and the output layer; arguments as of :func:`forward_flops`."""
    settings = plan.settings
    if settings.adaptive_softmax_cutoff:
        raise InputError(
            f"--adaptive-softmax-cutoff {settings.adaptive_softmax_cutoff}: the FLOPs of an adaptive softmax depend on "
            "the words and cannot be counted; drop the flag"
        )
    dim, output_dim = settings.decoder_embed_dim, settings.decoder_output_dim
    rows = batch * tgt_len
    # With --cross-self-attention the keys of the source stand before those of the target.
    own_keys = tgt_len + (src_len if settings.cross_self_attention else 0)
    layer = _attention(batch, tgt_len, own_keys, dim, dim)
    if not settings.no_cross_attention:
        layer += _attention(batch, tgt_len, src_len, dim, settings.encoder_embed_dim)
    layer += _feed_forward(rows, dim, settings.decoder_ffn_embed_dim)
    output = _product(rows, output_dim, vocab_size)
    if output_dim != dim:
        output += _product(rows, dim, output_dim)
    return len(plan.stack("decoder").indices) * layer + output


def _product(rows: int, inner: int, columns: int) -> int:
    """Return the FLOPs of ``(rows, inner) @ (inner, columns)``."""
    return 2 * rows * inner * columns


def _attention(batch: int, queries: int, keys: int, dim: int, key_dim: int) -> int:
    # All heads together are as wide as the model.
    query_and_output = 2 * _product(batch * queries, dim, dim)
    key_and_value = 2 * _product(batch * keys, key_dim, dim)
    scores_and_mean = 2 * batch * _product(queries, dim, keys)
    return query_and_output + key_and_value + scores_and_mean


def _feed_forward(rows: int, dim: int, hidden: int) -> int:
    return 2 * _product(rows, dim, hidden)

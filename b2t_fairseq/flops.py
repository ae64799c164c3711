"""The floating-point operations (FLOPs) of a translation model, counted from its settings.

Counted are the matrix products, 2 FLOPs for each multiply-add: projections, attention scores and values, feed-forward,
output layer.  Not counted are biases, norms, softmax, activations, dropout, residual sums, embedding lookups, the loss
and the optimizer, whose share is small, and whatever is computed a second time: fused attention and
``--checkpoint-activations`` do so in the backward pass.

Every position counts, padding too; the causal mask saves nothing.  Layers that share parameters compute as much as
layers that do not.  Dropped layers (LayerDrop) count as if they were kept.
"""

from __future__ import annotations

import argparse

from fairseq.dataclass import FairseqDataclass
from omegaconf import DictConfig

from b2t_common.errors import InputError

from .settings.fields import as_namespace
from .settings.validation import stack_indices

Settings = DictConfig | argparse.Namespace | FairseqDataclass


def training_flops(cfg: Settings, vocab_size: int, batch: int, src_len: int, tgt_len: int) -> int:
    """Return the FLOPs of one training step, forward and backward; see :func:`forward_flops` for the arguments.

    Three times the forward pass: for each product of two matrices the backward pass computes two of the same size, the
    gradients of both.
    """
    args = _settings(cfg)
    # no gradient reaches an encoder that no decoder layer looks at
    encoder_is_used = args.cross_self_attention or not args.no_cross_attention
    encoder = encoder_flops(cfg, batch, src_len) * (3 if encoder_is_used else 1)
    return encoder + 3 * decoder_flops(cfg, vocab_size, batch, src_len, tgt_len)


def forward_flops(cfg: Settings, vocab_size: int, batch: int, src_len: int, tgt_len: int) -> int:
    """Return the FLOPs of one forward pass, from ``(batch, src_len)`` and ``(batch, tgt_len)`` tokens to the logits.

    Args:
        cfg: the model's settings as ``B2TTransformerModel.build_model`` takes them, by the names of the flags; not the
            nested ones of a built model, ``model.cfg``.
        vocab_size: symbols of the target dictionary.
        batch: sentence pairs.
        src_len: length of the source sentences in tokens.
        tgt_len: length of the target sentences in tokens.

    Raises:
        InputError: the model has an adaptive softmax, whose cost depends on the words.
        TypeError: the settings are nested.
    """
    return encoder_flops(cfg, batch, src_len) + decoder_flops(cfg, vocab_size, batch, src_len, tgt_len)


def encoder_flops(cfg: Settings, batch: int, src_len: int) -> int:
    """Return the FLOPs of the encoder's forward pass; see :func:`forward_flops` for the arguments."""
    args = _settings(cfg)
    dim = args.encoder_embed_dim
    layer = _attention(batch, src_len, src_len, dim, dim)
    layer += _feed_forward(batch * src_len, dim, args.encoder_ffn_embed_dim)
    return len(stack_indices(args, "encoder")) * layer


def decoder_flops(cfg: Settings, vocab_size: int, batch: int, src_len: int, tgt_len: int) -> int:
    """Return the FLOPs of the decoder's forward pass, output layer included; arguments as of :func:`forward_flops`."""
    args = _settings(cfg)
    if args.adaptive_softmax_cutoff:
        raise InputError(
            f"--adaptive-softmax-cutoff {args.adaptive_softmax_cutoff}: the FLOPs of an adaptive softmax depend on the "
            "words and cannot be counted; drop the flag"
        )
    dim, output_dim = args.decoder_embed_dim, args.decoder_output_dim
    rows = batch * tgt_len
    # with --cross-self-attention the source stands before the target
    own_keys = tgt_len + src_len * args.cross_self_attention
    layer = _attention(batch, tgt_len, own_keys, dim, dim)
    if not args.no_cross_attention:
        layer += _attention(batch, tgt_len, src_len, dim, args.encoder_embed_dim)
    layer += _feed_forward(rows, dim, args.decoder_ffn_embed_dim)
    output = _product(rows, output_dim, vocab_size)
    if output_dim != dim:
        output += _product(rows, dim, output_dim)
    return len(stack_indices(args, "decoder")) * layer + output


def _settings(cfg: Settings) -> argparse.Namespace:
    if hasattr(cfg, "encoder"):
        # every name would be missing there, and so have its default
        raise TypeError("these settings are nested, as in model.cfg; give those that the model was built from")
    return as_namespace(cfg)


def _product(rows: int, inner: int, columns: int) -> int:
    """Return the FLOPs of ``(rows, inner) @ (inner, columns)``."""
    return 2 * rows * inner * columns


def _attention(batch: int, queries: int, keys: int, dim: int, key_dim: int) -> int:
    # all heads together are as wide as the model
    query_and_output = 2 * _product(batch * queries, dim, dim)
    key_and_value = 2 * _product(batch * keys, key_dim, dim)
    scores_and_mean = 2 * batch * _product(queries, dim, keys)
    return query_and_output + key_and_value + scores_and_mean


def _feed_forward(rows: int, dim: int, hidden: int) -> int:
    return 2 * _product(rows, dim, hidden)

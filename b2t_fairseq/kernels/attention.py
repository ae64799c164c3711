"""Multi-head attention of the layers: fairseq's parameters, PyTorch's fused attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from torch import Tensor

from .linear import is_plain, linear, linear_layer, reordered_product
from .packing import Packing, apply_packed
from .replaced import ReplacedLinear


def leave_cudnn_out() -> None:
    """Let PyTorch compute attention without cuDNN, unless the user turns cuDNN's attention on again.

    PyTorch prefers it on GPUs such as the H100 for bfloat16 without attention dropout.  But cuDNN makes a plan for each
    exact shape, which takes some ten milliseconds, and the batches of a text have thousands of shapes.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


class FusedMultiheadAttention(MultiheadAttention):
    """fairseq's ``MultiheadAttention`` on whole sequences: fewer and larger products, no attention weights in memory.

    Names and shapes of the parameters are fairseq's.  fairseq's own code still does what only it can do: attention
    weights, decoding step by step, quantized or pruned projections, xFormers.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # --retain-dropout-modules finds dropout by the name of fairseq's class.
        self.dropout_module.module_name = MultiheadAttention.__name__

    def forward(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        key_padding_mask: Tensor | None = None,
        incremental_state: dict | None = None,
        need_weights: bool = True,
        static_kv: bool = False,
        attn_mask: Tensor | None = None,
        before_softmax: bool = False,
        need_head_weights: bool = False,
        is_causal: bool = False,
        padding_scores: Tensor | None = None,
        packing: Packing | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attention, ``(tgt_len, batch, embed_dim)``, and its weights if they were asked for.

        Args:
            query: ``(tgt_len, batch, embed_dim)``.
            key: ``(src_len, batch, key_dim)``.
            value: the same tensor as ``key``.
            key_padding_mask: true at keys that nothing sees, ``(batch, src_len)``.
            incremental_state: keys and values of the steps so far.
            need_weights: return attention weights, the mean over heads.
            static_kv: whether the keys of the first step are those of all.
            attn_mask: added to the scores, ``(tgt_len, src_len)``.
            before_softmax: return scores and values instead.
            need_head_weights: return the attention weights of each head.
            is_causal: whether a query sees no later key; ``attn_mask`` then says the same, or is ``None``.
            padding_scores: what :func:`padding_scores` returns for ``key_padding_mask`` and ``is_causal``, and nothing
                else is to be hidden; so it is made once for all layers.
            packing: which queries are tokens; the output at padding is then not that of its queries.
        """
        plain = incremental_state is None and not (need_weights or need_head_weights or before_softmax)
        if not plain or key is None or key is not value or not self.has_plain_projections():
            if is_causal and attn_mask is None:
                attn_mask = _minus_infinity_at(_is_later(query.size(0), query.device), query.dtype)
            return super().forward(
                query,
                key,
                value,
                key_padding_mask,
                incremental_state,
                need_weights,
                static_kv,
                attn_mask,
                before_softmax,
                need_head_weights,
            )
        queries, keys, values = self._project(query, key, packing)
        if padding_scores is None:
            padding_scores = _joint_mask(key_padding_mask, attn_mask, is_causal, query)
        attended = F.scaled_dot_product_attention(
            self.split_heads(queries),
            self.split_heads(keys),
            self.split_heads(values),
            attn_mask=padding_scores,
            dropout_p=self.dropout_module.p if self.training or self.dropout_module.apply_during_inference else 0.0,
            is_causal=is_causal and key_padding_mask is None,
        )
        attended = attended.permute(2, 0, 1, 3).flatten(2)
        return apply_packed(partial(linear_layer, self.out_proj), attended, packing), None

    def packed(self, *names: str) -> Callable[[Tensor], Tensor]:
        """Return ``n`` projections, ``q``, ``k``, ``v``, in one, from ``(..., in_dim)`` to ``(..., n * embed_dim)``."""
        first, *others = projections = [getattr(self, f"{name}_proj") for name in names]
        if isinstance(first, ReplacedLinear):
            return first.joined(others)
        product = reordered_product(self, *names)
        if product is not None:
            return product
        weight, bias = torch.cat([p.weight for p in projections]), torch.cat([p.bias for p in projections])
        return partial(linear, weight=weight, bias=bias)

    def _project(self, query: Tensor, key: Tensor, packing: Packing | None) -> tuple[Tensor, ...]:
        if query is key:
            return apply_packed(self.packed("q", "k", "v"), query, packing).chunk(3, dim=-1)
        queries = apply_packed(partial(linear_layer, self.q_proj), query, packing)
        return queries, *self.packed("k", "v")(key).chunk(2, dim=-1)

    def split_heads(self, x: Tensor) -> Tensor:
        """Return ``(seq_len, batch, embed_dim)`` as ``(batch, heads, seq_len, head_dim)``."""
        return x.unflatten(2, (self.num_heads, self.head_dim)).permute(1, 2, 0, 3)

    def has_plain_projections(self) -> bool:
        if self.bias_k is not None or self.add_zero_attn or self.use_xformers or self.onnx_trace:
            return False
        # The output projection is only called, so it may be any module.
        projections = (self.q_proj, self.k_proj, self.v_proj)
        if self.embed_dim != self.q_proj.in_features:
            return False
        if all(isinstance(p, ReplacedLinear) for p in projections):
            return True
        return all(is_plain(p) and p.bias is not None for p in projections)


def padding_scores(padding: Tensor, dtype: torch.dtype, is_causal: bool = False, multiple: int = 1) -> Tensor:
    """Return what is added to the attention scores so that no query sees padding: minus infinity there, zero elsewhere.

    It is ``(batch, 1, 1, keys)``, or ``(batch, 1, keys, keys)`` if no query sees a later key either.

    Args:
        padding: true at padding, ``(batch, keys)``.
        dtype: that of queries and keys; PyTorch would convert another type in each layer.
        is_causal: whether later keys are hidden too, in the attention of a sequence to itself.
        multiple: of what the distance of two rows in memory is a multiple.  PyTorch's kernels for half precision need
            8, and copy other masks in each layer.
    """
    hidden = padding.bool()[:, None, None, :]
    if is_causal:
        hidden = hidden | _is_later(padding.size(1), padding.device)
    return _minus_infinity_at(hidden, dtype, multiple)


def _is_later(length: int, device: torch.device) -> Tensor:
    """Return whether a key (column) comes after a query (row), ``(length, length)``."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu_(1)


def _minus_infinity_at(hidden: Tensor, dtype: torch.dtype, multiple: int = 1) -> Tensor:
    *rows, columns = hidden.shape
    room = hidden.new_zeros(*rows, -(-columns // multiple) * multiple, dtype=dtype)
    return room[..., :columns].masked_fill_(hidden, float("-inf"))


def _joint_mask(
    key_padding_mask: Tensor | None, attn_mask: Tensor | None, is_causal: bool, query: Tensor
) -> Tensor | None:
    """Return one mask for PyTorch's fused attention, ``None`` if nothing is hidden that causality does not hide."""
    if key_padding_mask is None:
        return None if is_causal else attn_mask
    scores = padding_scores(key_padding_mask, query.dtype, is_causal)
    return scores if is_causal or attn_mask is None else scores + attn_mask.to(query.dtype)

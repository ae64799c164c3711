"""Word dropout: whole token embeddings are dropped in training (B2T paper, experimental settings)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WordDropout(nn.Module):
    """Zero the embedding vector of each token with probability ``p``, in training only.

    It acts before the embedding is scaled by sqrt(embed_dim) and before positions are added, so a dropped token keeps
    its position.  Kept vectors are not rescaled.  Padding and the end of the sentence can be dropped too.

    Args:
        p: probability of dropping a token, in [0, 1).
        keep_first: never drop position 0 (in the decoder the symbol that starts every sentence).
    """

    def __init__(self, p: float, keep_first: bool = False) -> None:
        super().__init__()
        self.p = p
        self.keep_first = keep_first

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the embeddings, ``(batch, seq_len, embed_dim)``, with dropped tokens set to zero."""
        if not self.training or self.p == 0:
            return embeddings
        return embeddings * self.draw_keep_mask(embeddings).unsqueeze(-1)

    def draw_keep_mask(self, embeddings: Tensor) -> Tensor:
        """Draw which tokens are kept: 1 for kept, 0 for dropped, ``(batch, seq_len)`` in the embeddings' type."""
        keep = torch.bernoulli(torch.full(embeddings.shape[:2], 1 - self.p, device=embeddings.device))
        if self.keep_first:
            keep[:, 0] = 1
        return keep.to(embeddings.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}, keep_first={self.keep_first}"

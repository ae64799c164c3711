"""The best continuations of all hypotheses of a sentence, from the logits."""

from __future__ import annotations

import torch
from torch import Tensor

# The largest logits are searched for in blocks of this size.
_BLOCK = 128
# The exponentials of so many rows fit into a CPU's cache.
_ROWS = 16


def candidates(logits: Tensor, scores: Tensor, rules: dict) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores, last symbols and hypotheses of the best continuations, each ``(sentences, 2 * beam)``.

    They are sorted, the best first.  There are so many that ``beam`` of them go on if all others end.  Where only one
    symbol may follow, there is one for each hypothesis, ``(sentences, beam)``.

    Args:
        logits: of the next symbol, ``(sentences * beam, vocabulary)``, float32; overwritten.
        scores: log-probabilities of the hypotheses so far, ``(sentences, beam)``.
        rules: ``never``: symbols that may not follow; ``only``: the one that may, or ``None``; ``penalties``: symbol to
            what is subtracted from its log-probability.
    """
    sentences, beam = scores.shape
    normalizers = log_normalizers(logits).view(sentences, beam)
    if rules["only"] is not None:
        ended = logits[:, rules["only"]].view(sentences, beam) - normalizers + scores
        ended, parents = ended.sort(dim=1, descending=True)
        return ended, torch.full_like(parents, rules["only"]), parents
    for symbol, penalty in rules["penalties"].items():
        logits[:, symbol] -= penalty
    for symbol in rules["never"]:
        logits[:, symbol] = float("-inf")
    values, symbols = largest(logits, 2 * beam)
    totals = values.view(sentences, beam, -1) - normalizers.unsqueeze(2) + scores.unsqueeze(2)
    best, places = totals.flatten(1).topk(2 * beam)
    parents = places.div(2 * beam, rounding_mode="floor")
    return best, symbols.view(sentences, -1).gather(1, places), parents


def largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest of each row and their places, ``(rows, k)``, largest first, as ``topk`` does.

    They lie in the ``k`` blocks whose largest are the largest, which are found in one pass.
    """
    rows, size = logits.shape
    num_blocks = size // _BLOCK
    if num_blocks <= 2 * k:
        return logits.topk(k)
    whole = num_blocks * _BLOCK
    blocks = logits[:, :whole].unflatten(1, (num_blocks, _BLOCK)).amax(dim=2).topk(k, sorted=False).indices
    places = (blocks.unsqueeze(2) * _BLOCK + torch.arange(_BLOCK, device=logits.device)).flatten(1)
    rest = torch.arange(whole, size, device=logits.device).expand(rows, -1)
    places = torch.cat((places, rest), dim=1)
    values, chosen = logits.gather(1, places).topk(k)
    return values, places.gather(1, chosen)


def log_normalizers(logits: Tensor) -> Tensor:
    """Return the logarithm of the sum of the exponentials of each row, ``(rows,)``."""
    if logits.device.type != "cpu":
        return logits.logsumexp(dim=1)
    sums = []
    for part in logits.split(_ROWS):
        most = part.amax(dim=1, keepdim=True)
        sums.append((part - most).exp_().sum(dim=1).log_() + most.squeeze(1))
    return torch.cat(sums)

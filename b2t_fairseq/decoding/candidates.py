"""The best continuations of all hypotheses of a sentence, from the logits."""

from __future__ import annotations

import torch
from torch import Tensor

# The largest log-probabilities are searched for in blocks of this size.
_BLOCK = 128
# The log-probabilities of so many rows fit into a CPU's cache.
_ROWS = 16


def candidates(logits: Tensor, scores: Tensor, rules: dict) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores, last symbols and hypotheses of the best continuations, each ``(sentences, 2 * beam)``.

    They are sorted, the best first.  There are so many that ``beam`` of them go on if all others end.  Where only one
    symbol may follow, there is one for each hypothesis, ``(sentences, beam)``.

    Args:
        logits: of the next symbol, ``(sentences * beam, vocabulary)``, float32.
        scores: log-probabilities of the hypotheses so far, ``(sentences, beam)``.
        rules: ``never``: symbols that may not follow; ``only``: the one that may, or ``None``; ``penalties``: symbol to
            what is subtracted from its log-probability.
    """
    sentences, beam = scores.shape
    only = rules["only"]
    if only is not None:
        ended = logits.log_softmax(dim=1)[:, only].view(sentences, beam) + scores
        ended, parents = ended.sort(dim=1, descending=True)
        return ended, torch.full_like(parents, only), parents
    rows = _ROWS if logits.is_cpu else len(logits)
    parts = [_largest_log_probs(part, 2 * beam, rules) for part in logits.split(rows)]
    values, symbols = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    totals = values.view(sentences, beam, -1) + scores.unsqueeze(2)
    best, places = totals.flatten(1).topk(2 * beam)
    parents = places.div(2 * beam, rounding_mode="floor")
    return best, symbols.view(sentences, -1).gather(1, places), parents


def _largest_log_probs(logits: Tensor, k: int, rules: dict) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest log-probabilities of each row and their symbols, ``(rows, k)``, by the rules."""
    log_probs = logits.log_softmax(dim=1)
    for symbol, penalty in rules["penalties"].items():
        log_probs[:, symbol] -= penalty
    for symbol in rules["never"]:
        log_probs[:, symbol].fill_(float("-inf"))
    return largest(log_probs, k)


def largest(numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest of each row and their places, ``(rows, k)``, largest first, as ``topk`` does.

    They lie in the ``k`` blocks whose largest are the largest, which are found in one pass.
    """
    rows, size = numbers.shape
    num_blocks = size // _BLOCK
    if num_blocks <= 2 * k:
        return numbers.topk(k)
    whole = num_blocks * _BLOCK
    blocks = numbers[:, :whole].unflatten(1, (num_blocks, _BLOCK)).amax(dim=2).topk(k, sorted=False).indices
    places = (blocks.unsqueeze(2) * _BLOCK + torch.arange(_BLOCK, device=numbers.device)).flatten(1)
    if whole < size:
        rest = torch.arange(whole, size, device=numbers.device).expand(rows, -1)
        places = torch.cat((places, rest), dim=1)
    values, chosen = numbers.gather(1, places).topk(k)
    return values, places.gather(1, chosen)

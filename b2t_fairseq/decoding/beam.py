"""Hypotheses of a batch of sentences: those that go on, and those that have ended."""

from __future__ import annotations

import torch
from torch import Tensor


class Beam:
    """The hypotheses that go on.

    Args:
        sentences: number of sentences.
        size: hypotheses for each.
        max_len: the most symbols of a hypothesis, its end not counted.
        start: the symbol before the first.
        pad: what stands where nothing is yet.
        device: where the tensors are.

    Attributes:
        tokens: ``(sentences, size, max_len + 1)``, from ``start``.
        totals: log-probability of a hypothesis up to each of its symbols, ``(sentences, size, max_len + 1)``.
        sentences: places of the sentences in the batch, ``(sentences,)``.
    """

    def __init__(self, sentences: int, size: int, max_len: int, start: int, pad: int, device: torch.device) -> None:
        self.tokens = torch.full((sentences, size, max_len + 1), pad, device=device)
        self.tokens[:, :, 0] = start
        self.totals = torch.zeros(sentences, size, max_len + 1, device=device)
        self.sentences = torch.arange(sentences, device=device)

    def scores(self, step: int) -> Tensor:
        """Return the log-probabilities so far, ``(sentences, size)``; at first all hypotheses are equal: one counts."""
        if step > 0:
            return self.totals[:, :, step - 1]
        scores = torch.full_like(self.totals[:, :, 0], float("-inf"))
        scores[:, 0] = 0
        return scores

    def is_reordered_by(self, parents: Tensor) -> bool:
        """Return whether hypotheses change places if they continue ``parents``, ``(sentences, size)``.

        On a GPU the answer is always yes, because the host would wait for another one.
        """
        places = torch.arange(parents.size(1), device=parents.device)
        return parents.is_cuda or not torch.equal(parents, places.expand_as(parents))

    def follow(self, parents: Tensor, step: int) -> None:
        """Let each hypothesis, of ``step`` symbols, continue another one of its sentence, ``(sentences, size)``."""
        index = parents.unsqueeze(2)
        for history in (self.tokens[:, :, : step + 1], self.totals[:, :, :step]):
            history.copy_(history.gather(1, index.expand(-1, -1, history.size(2))))

    def extend(self, tokens: Tensor, scores: Tensor, step: int) -> None:
        """Add the symbols ``tokens``, up to which the log-probabilities are ``scores``, each ``(sentences, size)``."""
        self.tokens[:, :, step + 1] = tokens
        self.totals[:, :, step] = scores

    def keep(self, sentences: Tensor) -> None:
        """Go on with some of the sentences only, given their places here, ``(kept,)``."""
        self.tokens, self.totals = self.tokens[sentences], self.totals[sentences]
        self.sentences = self.sentences[sentences]


class Finished:
    """The first ``size`` hypotheses of each sentence that have ended, in the order in which they did.

    Attributes:
        count: how many there are, ``(sentences,)``.
        tokens: their symbols, the end included, ``(sentences, size + 1, max_len + 1)``; the last place is for what
            comes too late.
        totals: log-probability up to each symbol, as ``tokens``.
        scores: ``(sentences, size + 1)``.
        lengths: number of symbols, ``(sentences, size + 1)``.
    """

    def __init__(self, sentences: int, size: int, max_len: int, device: torch.device) -> None:
        self.size = size
        shape = (sentences, size + 1)
        self.count = torch.zeros(sentences, dtype=torch.long, device=device)
        self.tokens = torch.zeros(*shape, max_len + 1, dtype=torch.long, device=device)
        self.totals = torch.zeros(*shape, max_len + 1, device=device)
        self.scores = torch.zeros(shape, device=device)
        self.lengths = torch.zeros(shape, dtype=torch.long, device=device)

    def add(
        self, beam: Beam, ends: Tensor, scores: Tensor, parents: Tensor, step: int, eos: int, penalty: float
    ) -> None:
        """Keep the candidates that end.

        Args:
            beam: the hypotheses that they continue.
            ends: whether a candidate ends, ``(unfinished, size)``, the best first.
            scores: log-probabilities of the candidates, ``(unfinished, size or more)``.
            parents: the hypotheses that they continue, as ``scores``.
            step: how many symbols they have before the last one.
            eos: that last symbol.
            penalty: what a log-probability is divided by.
        """
        size = ends.size(1)
        scores, parents = scores[:, :size], parents[:, :size]
        rank = self.count[beam.sentences].unsqueeze(1) + ends.cumsum(dim=1) - 1
        place = rank.masked_fill(~ends, self.size).clamp_(max=self.size)
        row = beam.sentences.unsqueeze(1).expand_as(place)
        index = parents.unsqueeze(2)
        self.tokens[row, place, :step] = beam.tokens[:, :, 1 : step + 1].gather(1, index.expand(-1, -1, step))
        # Tensors, because assigning a Python number by index synchronizes with the GPU.
        self.tokens[row, place, step] = torch.full_like(place, eos)
        self.totals[row, place, :step] = beam.totals[:, :, :step].gather(1, index.expand(-1, -1, step))
        self.totals[row, place, step] = scores
        self.scores[row, place] = scores / penalty
        self.lengths[row, place] = torch.full_like(place, step + 1)
        self.count[beam.sentences] = (self.count[beam.sentences] + ends.sum(dim=1)).clamp_(max=self.size)

    def unfinished(self, sentences: Tensor) -> Tensor:
        """Return which of ``sentences``, ``(n,)``, lack hypotheses: places in it; waits for a GPU."""
        return self.count[sentences].lt(self.size).nonzero().squeeze(1)

    def hypotheses(self) -> list[list[dict[str, Tensor]]]:
        """Return for each sentence its hypotheses as fairseq does, the best first."""
        scores, lengths, tokens, totals, counts = (
            x.cpu() for x in (self.scores, self.lengths, self.tokens, self.totals, self.count)
        )
        totals[:, :, 1:] -= totals[:, :, :-1].clone()
        hypotheses = []
        for sentence, count in enumerate(counts.tolist()):
            order = scores[sentence, :count].sort(descending=True).indices.tolist()
            of_sentence = []
            for place in order:
                length = int(lengths[sentence, place])
                of_sentence.append(
                    {
                        "tokens": tokens[sentence, place, :length],
                        "score": scores[sentence, place],
                        "attention": torch.empty(0),
                        "alignment": torch.empty(0),
                        "positional_scores": totals[sentence, place, :length],
                    }
                )
            hypotheses.append(of_sentence)
        return hypotheses

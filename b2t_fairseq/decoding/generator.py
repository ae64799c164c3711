"""fairseq's sequence generator with a faster beam search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from fairseq import search
from fairseq.modules import FairseqDropout
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor

from ..kernels import FAST
from ..layers import DecoderLayer
from ..stacks import Decoder
from .beam import Beam, Finished
from .candidates import candidates
from .shortlist import Allowed, Shortlist, required_symbols
from .step_decoder import StepDecoder

# After so many steps the host waits for a GPU and asks which sentences are finished.
_STEPS_BETWEEN_CHECKS = 8


class BeamSearchGenerator(SequenceGenerator):
    """Finds the hypotheses that fairseq's ``SequenceGenerator`` finds, with the same scores.

    fairseq's own code does everything but plain beam search: several models, sampling, constraints, prefixes, a
    language model, and so on.  Attention weights are not returned.

    Attributes:
        shortlist: which symbols may follow, by the source; ``None`` for all of them.
    """

    shortlist: Shortlist | None = None

    def _generate(
        self,
        sample: dict,
        prefix_tokens: Tensor | None = None,
        constraints: Tensor | None = None,
        bos_token: int | None = None,
    ) -> list[list[dict[str, Tensor]]]:
        sample = _with_features_as(sample, next(self.model.models[0].parameters()).dtype)
        allowed = self._allowed(sample, prefix_tokens, constraints)
        if prefix_tokens is not None or constraints is not None or not self._is_plain(allowed):
            with nullcontext() if allowed is None else allowed.for_all_logits(self.model):
                return super()._generate(sample, prefix_tokens, constraints, bos_token)
        source = sample["net_input"]["src_tokens"]
        sentences, length = source.shape[:2]
        max_len = min(int(self.max_len_a * length + self.max_len_b), self.max_len - 1)
        assert self.min_len <= max_len, "min_len cannot be larger than max_len, please adjust these!"
        model = self.model.models[0]
        encoder_out = model.encoder.forward_torchscript(sample["net_input"])
        expected = min(max_len + 1, length + length // 4 + 4)
        decoder = StepDecoder(model.decoder, encoder_out, self.beam_size, expected)
        start = self.eos if bos_token is None else bos_token
        beam = Beam(sentences, self.beam_size, max_len, start, self.pad, source.device)
        finished = Finished(sentences, self.beam_size, max_len, source.device)
        self._search(decoder, beam, finished, max_len, allowed)
        return finished.hypotheses()

    def _search(
        self, decoder: StepDecoder, beam: Beam, finished: Finished, max_len: int, allowed: Allowed | None
    ) -> None:
        """Run until every sentence has its hypotheses."""
        project = decoder.decoder.output_layer if allowed is None else allowed.projection(decoder.decoder)
        for step, rules in enumerate(self._rules(max_len)):
            features = decoder(beam.tokens[:, :, step])
            logits = self._heated(project(features).float())
            scores, tokens, parents = _best(logits, beam, step, rules, allowed)
            ends = tokens.eq(self.eos) & scores.ne(float("-inf"))
            # A GPU is not asked, because the host would wait for its answer.
            some_end = ends.is_cuda or bool(ends.any())
            if some_end:
                penalty = (step + 1) ** self.len_penalty if self.normalize_scores else 1
                finished.add(beam, ends[:, : self.beam_size], scores, parents, step, self.eos, penalty)
            if step == max_len:
                break
            if some_end and (not ends.is_cuda or step % _STEPS_BETWEEN_CHECKS == _STEPS_BETWEEN_CHECKS - 1):
                unfinished = finished.unfinished(beam.sentences)
                if not len(unfinished):
                    break
                # To move the remaining sentences together costs about a step.
                if len(unfinished) <= 7 * len(beam.sentences) // 8:
                    decoder.keep(unfinished)
                    beam.keep(unfinished)
                    scores, tokens, parents, ends = (x[unfinished] for x in (scores, tokens, parents, ends))
            scores, tokens, parents = _going_on(self.beam_size, ends if some_end else None, scores, tokens, parents)
            if beam.is_reordered_by(parents):
                decoder.follow(parents)
                beam.follow(parents, step)
            beam.extend(tokens, scores, step)

    def _heated(self, logits: Tensor) -> Tensor:
        return logits if self.temperature == 1.0 else logits.div_(self.temperature)

    def _allowed(self, sample: dict, prefixes: Tensor | None, constraints: Tensor | None) -> Allowed | None:
        """Return the candidates of a batch, ``None`` without a shortlist."""
        if self.shortlist is None:
            return None
        sources = sample["net_input"]["src_tokens"]
        required = required_symbols(sources, prefixes, constraints, self.pad)
        return self.shortlist.allowed(sources, required, self.tgt_dict)

    def _rules(self, max_len: int) -> Iterator[dict]:
        """Yield for each step what may follow, as :func:`candidates` takes it."""
        suppressed = self.token_indices_to_suppress
        never = [self.pad, *([] if suppressed is None else suppressed.tolist())]
        penalties = {self.unk: self.unk_penalty} if self.unk_penalty else {}
        for step in range(max_len + 1):
            yield {
                "never": [*never, self.eos] if step < self.min_len else never,
                "only": self.eos if step == max_len else None,
                "penalties": penalties,
            }

    def _is_plain(self, allowed: Allowed | None = None) -> bool:
        """Whether this is plain beam search with one model that :class:`StepDecoder` supports."""
        num_symbols = self.vocab_size if allowed is None else len(allowed)
        plain = (
            type(self.search) is search.BeamSearch
            and len(self.model.models) == 1
            and not self.match_source_len
            and self.repeat_ngram_blocker is None
            and self.lm_model is None
            # The first step may neither end nor pad, and needs enough other symbols.
            and num_symbols >= 2 * self.beam_size + 8
        )
        return plain and is_supported(self.model.models[0])


def _with_features_as(sample: dict, dtype: torch.dtype) -> dict:
    """Return a batch whose speech features have the type of the weights; fairseq leaves them in float32."""
    source = sample["net_input"]["src_tokens"]
    if not source.is_floating_point() or source.dtype == dtype:
        return sample
    return {**sample, "net_input": {**sample["net_input"], "src_tokens": source.to(dtype)}}


def _best(logits: Tensor, beam: Beam, step: int, rules: dict, allowed: Allowed | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return what :func:`candidates` does, from the logits of the allowed symbols if not all are allowed."""
    if allowed is None:
        return candidates(logits, beam.scores(step), rules)
    logits = allowed.mask(logits, beam.sentences)
    scores, places, parents = candidates(logits, beam.scores(step), allowed.rules(rules))
    return scores, allowed.symbols[places], parents


def _going_on(size: int, ends: Tensor | None, *candidates: Tensor) -> Iterator[Tensor]:
    """Return what belongs to the best candidates that go on, in order, each ``(sentences, size)``.

    Args:
        size: how many go on in each sentence.
        ends: which candidates end, ``(sentences, more)``; ``None``: none of them.
        *candidates: their scores, symbols and so on, each ``(sentences, more)``, the best first.
    """
    if ends is None:
        return (x[:, :size] for x in candidates)
    chosen = ends.to(torch.uint8).sort(dim=1, stable=True).indices[:, :size]
    return (x.gather(1, chosen) for x in candidates)


def is_supported(model: torch.nn.Module) -> bool:
    """Whether a model's decoder can go step by step as :class:`StepDecoder` does."""
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, Decoder) or decoder.cfg.kernels != FAST or not hasattr(model, "encoder"):
        return False
    if decoder.adaptive_softmax is not None or decoder.cross_self_attention:
        return False
    layers = decoder.layer_list()
    if not all(isinstance(layer, DecoderLayer) for layer in layers):
        return False
    attentions = [a for layer in layers for a in (layer.self_attn, layer.encoder_attn) if a is not None]
    if not all(attention.has_plain_projections() for attention in attentions):
        return False
    # --retain-dropout applies dropout in decoding too.
    return not any(m.apply_during_inference for m in model.modules() if isinstance(m, FairseqDropout))

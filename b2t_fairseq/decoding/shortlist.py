"""Lexical shortlists: which target symbols a translation may consist of, by the symbols of its source.

The output projection is then computed for the candidates of a batch, some thousands of a large dictionary, and the
probabilities of other symbols are zero.  Each sentence has its own candidates, whatever sentences are beside it.
"""

from __future__ import annotations

import zipfile
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.sequence_generator import EnsembleModel
from fairseq.token_generation_constraints import unpack_constraints
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_common.files import replacing, require_file

from ..dictionaries import checksum
from ..kernels import FAST
from ..kernels.linear import is_plain, linear
from ..kernels.replaced import ReplacedLinear

_FORMAT = "b2t shortlist 1"
_MAKE_ONE = "make one with b2t shortlist from the data that the model was trained on"


class Shortlist:
    """The candidates for each source symbol.

    Args:
        source: checksum of the source dictionary, :func:`~b2t_fairseq.dictionaries.checksum`.
        target: checksum of the target dictionary.
        best: the best target symbols for each source symbol, filled up with the end symbol,
            ``(source symbols, number)``.
        frequent: target symbols that are candidates for every source, ``(number,)``.
    """

    def __init__(self, source: str | None, target: str | None, best: Tensor, frequent: Tensor) -> None:
        self.source, self.target = source, target
        self.best, self.frequent = best, frequent

    def write(self, path: Path) -> None:
        """Write a file for :func:`read`, completely or not at all.

        Raises:
            InputError: the folder is missing, or the file is a folder.
        """
        require_file(path)
        best, frequent = self.best.int().numpy(), self.frequent.int().numpy()
        with replacing(path) as (unfinished,), open(unfinished, "wb") as file:
            np.savez_compressed(
                file, format=_FORMAT, source=str(self.source), target=str(self.target), best=best, frequent=frequent
            )

    def require_dictionaries(self, source: Dictionary, target: Dictionary, name: str) -> None:
        """Check that the shortlist was made for these dictionaries.

        Args:
            source: the model's source dictionary.
            target: the model's target dictionary.
            name: what the message calls the shortlist, for instance its file.

        Raises:
            InputError: it was made for other ones.
        """
        for side, own, dictionary in (("source", self.source, source), ("target", self.target, target)):
            if own != checksum(dictionary):
                raise InputError(
                    f"{name} was made for the {side} dictionary with checksum {own}, but that of the model is "
                    f"{checksum(dictionary)}: {_MAKE_ONE}"
                )
        if self.best.size(0) != len(source) or max(int(x.max()) for x in (self.best, self.frequent)) >= len(target):
            raise InputError(f"{name} is damaged: its numbers do not fit its dictionaries; {_MAKE_ONE}")

    def allowed(self, sources: Tensor, required: Tensor, dictionary: Dictionary) -> Allowed:
        """Return the candidates of a batch.

        Args:
            sources: the sentences, padded, ``(sentences, src_len)``.
            required: symbols that are candidates too, such as prefixes, padded, ``(sentences, number)``.
            dictionary: of the target.
        """
        device = sources.device
        # Every source ends with this symbol, so padding adds no candidates.
        sources = sources.masked_fill(sources.eq(dictionary.pad()), dictionary.eos()).cpu()
        is_candidate = torch.zeros(len(sources), len(dictionary), dtype=torch.bool)
        is_candidate.scatter_(1, self.best[sources].flatten(1).long(), True)
        if self.source == self.target:
            # Names and numbers are copied.
            is_candidate.scatter_(1, sources, True)
        is_candidate.scatter_(1, required.cpu(), True)
        is_candidate[:, self.frequent.long()] = True
        # The end, the unknown symbol, and those that never follow but have some of the probability.
        is_candidate[:, : dictionary.nspecial] = True
        symbols = is_candidate.any(dim=0).nonzero().squeeze(1)
        return Allowed(symbols, is_candidate[:, symbols], len(dictionary), device)


class Allowed:
    """The candidates of a batch of sentences.

    Args:
        symbols: all of them in ascending order, ``(candidates,)``.
        is_candidate: which are those of each sentence, ``(sentences, candidates)``.
        num_symbols: size of the dictionary.
        device: where the logits will be.

    Attributes:
        symbols: as above.
    """

    def __init__(self, symbols: Tensor, is_candidate: Tensor, num_symbols: int, device: torch.device) -> None:
        self.symbols, self.num_symbols = symbols.to(device), num_symbols
        self._ordered = symbols.tolist()
        self._added: Tensor | None = None
        if not is_candidate.all():
            self._added = torch.zeros(is_candidate.shape).masked_fill_(~is_candidate, float("-inf")).to(device)

    def __len__(self) -> int:
        return len(self._ordered)

    def place(self, symbol: int) -> int | None:
        """Return the place of a symbol among the candidates, ``None`` if it is none of them."""
        place = bisect_left(self._ordered, symbol)
        return place if place < len(self) and self._ordered[place] == symbol else None

    def rules(self, rules: dict) -> dict:
        """Return the rules that :func:`.candidates.candidates` takes, with places in place of symbols."""
        places = {symbol: self.place(symbol) for symbol in [*rules["never"], *rules["penalties"]]}
        return {
            "never": [places[symbol] for symbol in rules["never"] if places[symbol] is not None],
            "only": None if rules["only"] is None else self.place(rules["only"]),
            "penalties": {places[symbol]: number for symbol, number in rules["penalties"].items()},
        }

    def mask(self, logits: Tensor, sentences: Tensor) -> Tensor:
        """Return logits of candidates, minus infinity for those of other sentences.

        Args:
            logits: ``(rows, ..., candidates)``, with the same number of rows for each of ``sentences``; overwritten.
            sentences: places in the batch, ``(n,)``.
        """
        if self._added is None:
            return logits
        added = self._added[sentences].unsqueeze(1).to(logits.dtype)
        return logits.view(len(sentences), -1, len(self)).add_(added).view_as(logits)

    def projection(self, decoder: TransformerDecoderBase) -> Callable[[Tensor], Tensor]:
        """Return the part of a decoder's output projection that computes the logits of the candidates."""
        layer: nn.Module = decoder.output_projection
        if isinstance(layer, ReplacedLinear):
            return layer.rows(self.symbols)
        if is_plain(layer):
            product = linear if getattr(decoder.cfg, "kernels", None) == FAST else F.linear
            bias = None if layer.bias is None else layer.bias[self.symbols]
            return partial(product, weight=layer.weight[self.symbols], bias=bias)
        return lambda x: layer(x).index_select(-1, self.symbols)

    @contextmanager
    def for_all_logits(self, models: EnsembleModel) -> Iterator[None]:
        """Let models give minus infinity to symbols that are no candidates, in fairseq's own search.

        Args:
            models: those of a generator; they are as before at the end.
        """
        layers = [_AllLogits(self, model.decoder) for model in models.models]
        before = [model.decoder.output_projection for model in models.models]
        reorder, rows = models.reorder_encoder_out, None

        def followed(encoder_outs, new_order):
            # fairseq reorders the encoder's output at first, and whenever hypotheses change places or sentences end.
            nonlocal rows
            rows = new_order if rows is None else rows[new_order]
            for layer in layers:
                layer.rows = rows
            return reorder(encoder_outs, new_order)

        try:
            models.reorder_encoder_out = followed
            for model, layer in zip(models.models, layers, strict=True):
                model.decoder.output_projection = layer
            yield
        finally:
            del models.reorder_encoder_out
            for model, layer in zip(models.models, before, strict=True):
                model.decoder.output_projection = layer


class _AllLogits(nn.Module):
    """An output projection onto the whole vocabulary, in which only candidates have finite logits.

    Attributes:
        rows: the sentence of each hypothesis, as its place in the batch.
    """

    rows: Tensor

    def __init__(self, allowed: Allowed, decoder: TransformerDecoderBase) -> None:
        super().__init__()
        self.allowed, self.project = allowed, allowed.projection(decoder)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(rows, tgt_len, vocabulary)`` for ``(rows, tgt_len, output_dim)``."""
        logits = self.allowed.mask(self.project(features), self.rows)
        everything = logits.new_full((*logits.shape[:-1], self.allowed.num_symbols), float("-inf"))
        everything[..., self.allowed.symbols] = logits
        return everything


def required_symbols(sources: Tensor, prefixes: Tensor | None, constraints: Tensor | None, pad: int) -> Tensor:
    """Return the symbols that translations must have, padded, ``(sentences, number)``.

    Args:
        sources: the sentences, ``(sentences, src_len)``.
        prefixes: beginnings of the translations, ``(sentences, number)``, or ``None``.
        constraints: what fairseq packs phrases into that translations must have, or ``None``.
        pad: what fills up.
    """
    parts = [] if prefixes is None else [prefixes.cpu()]
    if constraints is not None:
        phrases = [unpack_constraints(row) for row in constraints.cpu()]
        symbols = [torch.cat(row).long() if row else torch.zeros(0, dtype=torch.long) for row in phrases]
        parts.append(nn.utils.rnn.pad_sequence(symbols, batch_first=True, padding_value=pad))
    return torch.cat(parts, dim=1) if parts else torch.full((len(sources), 0), pad)


def read(path: str | Path) -> Shortlist:
    """Return what :meth:`Shortlist.write` wrote; a file that is read again and has not changed is kept.

    Raises:
        InputError: there is no such file, or it is no shortlist.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"shortlist {path}: no such file; {_MAKE_ONE}")
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> Shortlist:
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["format"]) != _FORMAT:
                raise InputError(f"shortlist {path} has the format {str(file['format'])!r}, and not {_FORMAT!r}")
            best, frequent = (torch.from_numpy(file[name]) for name in ("best", "frequent"))
            return Shortlist(str(file["source"]), str(file["target"]), best, frequent)
    except (OSError, EOFError, KeyError, TypeError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"shortlist {path} is no shortlist, or it is damaged; {_MAKE_ONE}") from None

"""Translations of lines by a loaded model: empty lines and lines of any length included."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import utils
from fairseq.dataclass.configs import GenerationConfig

from b2t_common.errors import InputError
from b2t_fairseq.decoding.search_settings import check_precision, check_search
from b2t_fairseq.hub import from_pretrained

from ..translate import SEARCH
from .long_lines import cut


class Translator:
    """A model with its dictionaries, its pieces and a search."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Load the model.

        Args:
            args: the arguments of ``b2t translate``.

        Raises:
            InputError: the model, its dictionaries or its SentencePiece is missing, or a setting cannot work.
        """
        settings = GenerationConfig(**{name: getattr(args, name) for name in SEARCH})
        settings.shortlist = args.shortlist
        check_search(settings)
        use_gpu = torch.cuda.is_available() and not args.cpu
        check_precision([name for name in ("int8", "bf16", "fp16") if getattr(args, name)], use_gpu)
        languages = {name: getattr(args, name) for name in ("source_lang", "target_lang")}
        overrides = {name: value for name, value in languages.items() if value is not None}
        self.hub = from_pretrained(args.run, data=args.data, int8=args.int8, **overrides)
        self._take_pieces(args.run, args.pieces)
        if args.fp16:
            self.hub.half()
        if use_gpu:
            self.hub.cuda()
        settings.bf16 = args.bf16
        # one token is the end of the sentence
        self.max_pieces = min(args.max_pieces, self._max_positions() - 1)
        self.hub.cfg.dataset.max_tokens = max(args.max_tokens, self.max_pieces + 1)
        self.hub.cfg.dataset.batch_size = None
        self.generator = self.hub.task.build_generator(self.hub.models, settings)
        self.seed = args.seed if args.sampling else None

    def translate(self, lines: Sequence[str], number: int = 0) -> tuple[list[str], int]:
        """Return a translation for each line, and how many lines were cut because they are too long.

        Args:
            lines: the lines; one without a piece gets an empty translation.
            number: the number of the part, so that each part draws other random numbers.
        """
        cut_lines = [cut(pieces, self.max_pieces) if pieces else [] for pieces in map(self._pieces, lines)]
        stretches = [" ".join(stretch) for stretches in cut_lines for stretch in stretches]
        if self.seed is not None:
            utils.set_torch_seed(self.seed + number)
        translated = iter(self._search(stretches))
        translations = [" ".join(next(translated) for _ in stretches) for stretches in cut_lines]
        return translations, sum(len(stretches) > 1 for stretches in cut_lines)

    def _search(self, sentences: Sequence[str]) -> list[str]:
        """Return the best translation of each sentence; sentences and batches are those of ``b2t generate``."""
        results: dict[int, str] = {}
        tokens = [self.hub.binarize(sentence) for sentence in sentences]
        for batch in self.hub._build_batches(tokens, False) if tokens else ():
            batch = utils.apply_to_sample(lambda tensor: tensor.to(self.hub.device), batch)
            hypotheses = self.hub.task.inference_step(self.generator, self.hub.models, batch)
            for index, best in zip(batch["id"].tolist(), hypotheses, strict=True):
                results[index] = self.hub.decode(best[0]["tokens"])
        return [results[index] for index in range(len(sentences))]

    def _pieces(self, line: str) -> list[str]:
        return self.hub.apply_bpe(self.hub.tokenize(line)).split()

    def _max_positions(self) -> int:
        limit: Any = self.hub.max_positions
        return int(limit[0] if isinstance(limit, tuple) else limit)

    def _take_pieces(self, run: Path, already: bool) -> None:
        """Use the run's SentencePiece, or none if the text is in pieces already."""
        if already:
            self.hub.bpe = self.hub.tokenizer = None
        elif self.hub.bpe is None:
            raise InputError(
                f"{run} has no spm.model, neither beside the model nor with its data; put it there, or give text in "
                "pieces, as fairseq-preprocess got it, with --pieces"
            )

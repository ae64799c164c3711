"""The test sets of a run: those that sacreBLEU has, or those that came with the run's data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import read_lines

from . import newstest
from .generated import read_tokens
from .moses import PerlTokenizer
from .published import TOKENIZED


class TestSet(NamedTuple):
    """Sentences and their reference translations."""

    sources: list[str]
    references: list[str]


class TestSets(dict[str, TestSet]):
    """The papers' test sets in one language pair, by name; each is read when it is used for the first time.

    Attributes:
        language_pair: source and target, such as ``en-de``.
        target: the target language.
        names: the names of all sets.
        lower_cased: whether the translations are in lower case, so that the case of the references does not count.

    Raises:
        InputError: sacreBLEU does not have it, or its cache is damaged.
    """

    names: tuple[str, ...] = tuple(newstest.NEWSTESTS)
    lower_cased = False

    def __init__(self, language_pair: str) -> None:
        super().__init__()
        self.language_pair = language_pair
        self.target = language_pair.split("-")[-1]

    def __missing__(self, name: str) -> TestSet:
        sources, references = (read(name, self.language_pair) for read in (newstest.sources, newstest.references))
        if len(sources) != len(references):
            raise InputError(
                f"sacreBLEU's cache {sacrebleu.utils.SACREBLEU_DIR} has {len(sources)} sources and {len(references)} "
                f"references of {name}: delete its folder {newstest.NEWSTESTS[name]} there"
            )
        self[name] = TestSet(sources, references)
        return self[name]

    def metrics(self) -> list[Metric]:
        """Return BLEU, with the tokenizer that sacreBLEU's command uses for the target language, and chrF."""
        return [BLEU(trg_lang=self.target, lowercase=self.lower_cased), CHRF(lowercase=self.lower_cased)]

    def further_scores(self, name: str, generated: Path, hypotheses: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return scores that are of other text than that of :meth:`metrics`, by the metric's name.

        Args:
            name: the test set.
            generated: the output of ``fairseq-generate``.
            hypotheses: the translations in it as text.
        """
        return {}


class OwnTestSets(TestSets):
    """The test sets that came with the data of a run: its ``evaluation/references``, which scripts/evaluate.sh copies.

    Raises:
        InputError: a file is missing or damaged, or the sides of a set have different numbers of lines.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / run_folder.REFERENCES
        path = self.folder / "about.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            super().__init__(about["language_pair"])
            self.names = tuple(about["sets"])
            self.lower_cased = about["lower_cased_tokens"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is missing or damaged ({error!r}); delete {self.folder}, and run scripts/evaluate.sh again"
            ) from None

    def __missing__(self, name: str) -> TestSet:
        sides = [read_lines(self.folder / f"{name}.{language}") for language in self.language_pair.split("-")]
        sides.append(self.tokens(name))
        if len(set(map(len, sides))) > 1:
            raise InputError(
                f"{self.folder} has {len(sides[0])} sources, {len(sides[1])} references and {len(sides[2])} tokenized "
                f"references of {name}; delete that folder, and run scripts/evaluate.sh again"
            )
        self[name] = TestSet(*sides[:2])
        return self[name]

    def tokens(self, name: str) -> list[str]:
        """Return the references of a set as lower-cased Moses tokens."""
        return read_lines(self.folder / f"{name}.tokens.{self.target}")

    def further_scores(self, name: str, generated: Path, hypotheses: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the tokenized BLEU, see ``TOKENIZED``; arguments as of the base class.

        Translations that are such tokens already are taken as they are, others are tokenized here.
        """
        references = self.tokens(name)
        if self.lower_cased:
            tokens = read_tokens(generated, references)
        else:
            tokenize = PerlTokenizer(self.target)
            tokens = [tokenize(line).lower() for line in hypotheses]
        # force: without it, sacreBLEU warns that it got tokens
        metric = BLEU(tokenize="none", smooth_method="none", lowercase=True, force=True)
        result = metric.corpus_score(tokens, [references])
        scores = {"score": float(result.score), "signature": str(metric.get_signature())}
        return {TOKENIZED: {**scores, "brevity_penalty": result.bp, "length_ratio": result.ratio}}

    def is_like(self, other: OwnTestSets) -> bool:
        """Return whether scores on both can be compared."""
        same_case = self.lower_cased == other.lower_cased
        return same_case and self.names == other.names and all(self[name] == other[name] for name in self.names)


def sets_of(runs: Sequence[Path], language_pair: str | None = None) -> TestSets:
    """Return the test sets on which all of some runs are scored.

    Args:
        runs: the runs' folders.
        language_pair: the language pair of sets that sacreBLEU has (default: that of the papers).

    Raises:
        InputError: the runs are scored on different test sets, or their own sets have another language pair.
    """
    own = [run for run in runs if (run / run_folder.REFERENCES).is_dir()]
    if not own:
        return TestSets(language_pair or newstest.PAPERS_PAIR)
    first = OwnTestSets(own[0])
    for run in runs:
        if run not in own or not first.is_like(OwnTestSets(run)):
            raise InputError(
                f"{own[0]} and {run} are not scored on the same test sets in the same case; score them apart"
            )
    if language_pair not in (None, first.language_pair):
        raise InputError(f"--language-pair {language_pair}: {own[0]} translates {first.language_pair}")
    return first

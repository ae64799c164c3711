"""The scores of one run on the papers' test sets: BLEU, chrF and COMET of its translations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import sacrebleu
import torch
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import write_lines
from b2t_common.scripts import script_command
from b2t_common.versions import installed_version
from b2t_fairseq import __version__, checkpoints

from ..runs.checkpoint_model import describe
from . import comet, newstest
from .generated import read_generated
from .matching import matching


class TestSet(NamedTuple):
    """Sentences and their reference translations."""

    sources: list[str]
    references: list[str]


class TestSets(dict[str, TestSet]):
    """The papers' test sets in one language pair, by name; each is read when it is used for the first time.

    Raises:
        InputError: sacreBLEU does not have it, or its cache is damaged.
    """

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
        return [BLEU(trg_lang=self.target), CHRF()]


@dataclass
class Evaluation:
    """The translations of a run by test set, and the content of its ``scores.json``."""

    hypotheses: dict[str, list[str]]
    scores: dict[str, Any]


def evaluate(run: Path, name: str, test_sets: TestSets, comet_model: str | None = None) -> Evaluation:
    """Score the translations of the test sets in ``RUN/evaluation``, and write them there, one a line.

    Args:
        run: a run's folder.  Its evaluation folder has the model that translated, ``averaged.pt``, and the output of
            ``fairseq-generate`` for each test set, ``newstest2010.generated.txt`` and so on.
        name: what tables call the run.
        test_sets: the test sets.
        comet_model: ``None`` for no COMET, empty for its default model.

    Raises:
        InputError: there is no translation, one is incomplete, or there is no model.
    """
    generated = _generated(run)
    description = describe(checkpoints.load(run / run_folder.AVERAGED))
    hypotheses = {key: read_generated(file, test_sets[key].references) for key, file in generated.items()}
    sets = {}
    for key, lines in hypotheses.items():
        write_lines(run / run_folder.translations(key, test_sets.target), lines)
        sets[key] = _score(lines, key, test_sets, comet_model)
    average = _average(sets)
    in_papers = test_sets.language_pair == newstest.PAPERS_PAIR
    scores = {
        "run": name,
        "language_pair": test_sets.language_pair,
        **description,
        "sets": sets,
        "average": average,
        "missing": [key for key in newstest.NEWSTESTS if key not in sets],
        "published": _published(description["settings"], average) if in_papers else [],
        "versions": {
            "b2t_fairseq": __version__,
            "sacrebleu": sacrebleu.__version__,
            "fairseq": installed_version("fairseq"),
            "torch": torch.__version__,
        },
    }
    return Evaluation(hypotheses, scores)


def _generated(run: Path) -> dict[str, Path]:
    """Return the output of ``fairseq-generate`` for each test set for which there is one."""
    files = {key: run / run_folder.generated(key) for key in newstest.NEWSTESTS}
    existing = {key: file for key, file in files.items() if file.exists()}
    if not existing:
        raise InputError(
            f"{run / run_folder.EVALUATION} has none of newstest2010.generated.txt to newstest2016.generated.txt; "
            f"make them with {script_command('evaluate.sh', run)}"
        )
    return existing


def _average(sets: dict[str, dict[str, Any]]) -> dict[str, float] | None:
    """Return the mean of each metric over the test sets, ``None`` unless all seven of the papers are there."""
    if len(sets) < len(newstest.NEWSTESTS):
        return None
    metrics = next(iter(sets.values()))["metrics"]
    return {metric: mean(scored["metrics"][metric]["score"] for scored in sets.values()) for metric in metrics}


def _published(settings: dict[str, Any], average: dict[str, float] | None) -> list[dict[str, Any]]:
    """Return the papers' results of the same model, each with the difference of this average to that one."""
    matches = []
    for row in matching(settings):
        difference = average["BLEU"] - row["average"] if average and row["average"] is not None else None
        matches.append({"row": row, "difference": difference})
    return matches


def _score(hypotheses: list[str], name: str, test_sets: TestSets, comet_model: str | None) -> dict[str, Any]:
    sources, references = test_sets[name]
    metrics: dict[str, dict[str, Any]] = {}
    for metric in test_sets.metrics():
        result = metric.corpus_score(hypotheses, [references])
        metrics[result.name] = {"score": float(result.score), "signature": str(metric.get_signature())}
        if isinstance(metric, BLEU):
            metrics[result.name] |= {"brevity_penalty": result.bp, "length_ratio": result.ratio}
    if comet_model is not None:
        score = comet.system_score(sources, hypotheses, references, comet_model)
        metrics["COMET"] = {"score": score, "signature": f"model:{comet_model or 'default'}"}
    return {"sacrebleu": newstest.NEWSTESTS[name], "segments": len(hypotheses), "metrics": metrics}

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
    """The papers' test sets in one language pair by name, each read when it is first asked for.

    Raises:
        InputError: sacreBLEU does not have it, or its cache is damaged.
    """

    def __init__(self, language_pair: str) -> None:
        super().__init__()
        self.language_pair = language_pair
        self.target = language_pair.split("-")[-1]

    def __missing__(self, name: str) -> TestSet:
        found = TestSet(newstest.sources(name, self.language_pair), newstest.references(name, self.language_pair))
        if len(found.sources) != len(found.references):
            raise InputError(
                f"sacreBLEU's cache {sacrebleu.utils.SACREBLEU_DIR} has {len(found.sources)} sources and "
                f"{len(found.references)} references of {name}: delete its folder {newstest.NEWSTESTS[name]} there"
            )
        self[name] = found
        return found

    def metrics(self) -> list[Metric]:
        """Return BLEU, with the tokenizer of the target language as on sacreBLEU's command line, and chrF."""
        return [BLEU(trg_lang=self.target), CHRF()]


@dataclass
class Evaluation:
    """Translations of a run by test set, and what ``scores.json`` holds."""

    hypotheses: dict[str, list[str]]
    scores: dict[str, Any]


def evaluate(run: Path, name: str, test_sets: TestSets, comet_model: str | None = None) -> Evaluation:
    """Score what ``RUN/evaluation`` has of the test sets and write the translations there, one a line.

    Args:
        run: a run's folder; its evaluation folder holds ``newstest2010.generated.txt``, what ``fairseq-generate``
            printed, and so on, and ``averaged.pt``, the model that was used.
        name: what tables call the run.
        test_sets: the test sets.
        comet_model: ``None`` for no COMET, empty for its default model.

    Raises:
        InputError: there is no translation, one is incomplete, or there is no model.
    """
    generated = {key: run / run_folder.generated(key) for key in newstest.NEWSTESTS}
    generated = {key: file for key, file in generated.items() if file.exists()}
    if not generated:
        raise InputError(
            f"{run / run_folder.EVALUATION} has none of newstest2010.generated.txt to newstest2016.generated.txt; "
            f"make them with {script_command('evaluate.sh', run)}"
        )
    description = describe(checkpoints.load(run / run_folder.AVERAGED))
    hypotheses = {key: read_generated(file, test_sets[key].references) for key, file in generated.items()}
    sets = {}
    for key, lines in hypotheses.items():
        write_lines(run / run_folder.translations(key, test_sets.target), lines)
        sets[key] = _score(lines, key, test_sets, comet_model)
    metrics = sets[next(iter(sets))]["metrics"]
    complete = len(sets) == len(newstest.NEWSTESTS)
    # the papers' average is that of all seven
    average = {m: mean(s["metrics"][m]["score"] for s in sets.values()) for m in metrics} if complete else None
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


def _published(settings: dict[str, Any], average: dict[str, float] | None) -> list[dict[str, Any]]:
    """Return the papers' results of the same model, each with the difference of the average to it."""
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

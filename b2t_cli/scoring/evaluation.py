"""The scores of one run on its test sets: BLEU, chrF and COMET of its translations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import sacrebleu
import torch
from sacrebleu.metrics import BLEU

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import write_lines
from b2t_common.scripts import script_command
from b2t_common.versions import installed_version
from b2t_fairseq import __version__, checkpoints

from ..runs.checkpoint_model import describe
from . import newstest, published
from .comet import Comet
from .generated import read_generated
from .matching import matching
from .published import TOKENIZED
from .sets import OwnTestSets, TestSets


@dataclass
class Evaluation:
    """The translations of a run by test set, and the content of its ``scores.json``."""

    hypotheses: dict[str, list[str]]
    scores: dict[str, Any]


def evaluate(run: Path, name: str, test_sets: TestSets, comet: Comet | None = None) -> Evaluation:
    """Score the translations of the test sets in ``RUN/evaluation``, and write them there, one a line.

    Args:
        run: a run's folder.  Its evaluation folder has the model that translated, ``averaged.pt``, and the output of
            ``fairseq-generate`` for each test set, ``newstest2010.generated.txt`` and so on.
        name: what tables call the run.
        test_sets: the test sets.
        comet: a model of COMET, ``None`` for no such score.

    Raises:
        InputError: there is no translation, one is incomplete, or there is no model.
    """
    generated = _generated(run, test_sets.names)
    description = describe(checkpoints.load(run / run_folder.AVERAGED))
    hypotheses = {key: read_generated(file, test_sets[key].references) for key, file in generated.items()}
    sets = {}
    for key, lines in hypotheses.items():
        write_lines(run / run_folder.translations(key, test_sets.target), lines)
        sets[key] = _score(lines, key, test_sets, comet)
        sets[key]["metrics"] |= test_sets.further_scores(key, generated[key], lines)
    average = _average(sets, test_sets.names)
    scores = {
        "run": name,
        "language_pair": test_sets.language_pair,
        "own_test_sets": isinstance(test_sets, OwnTestSets),
        **description,
        "sets": sets,
        "average": average,
        "missing": [key for key in test_sets.names if key not in sets],
        "published": _published(description["settings"], average, test_sets),
        "versions": {
            "b2t_fairseq": __version__,
            "sacrebleu": sacrebleu.__version__,
            "fairseq": installed_version("fairseq"),
            "torch": torch.__version__,
        },
    }
    return Evaluation(hypotheses, scores)


def _generated(run: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the output of ``fairseq-generate`` for each test set for which there is one."""
    files = {key: run / run_folder.generated(key) for key in names}
    existing = {key: file for key, file in files.items() if file.exists()}
    if not existing:
        ends = " to ".join(dict.fromkeys(files[key].name for key in (names[0], names[-1])))
        raise InputError(
            f"{run / run_folder.EVALUATION} has none of {ends}; make them with {script_command('evaluate.sh', run)}"
        )
    return existing


def _average(sets: dict[str, dict[str, Any]], names: Sequence[str]) -> dict[str, float] | None:
    """Return the mean of each metric over the test sets, ``None`` unless all of them are there."""
    if len(sets) < len(names):
        return None
    metrics = next(iter(sets.values()))["metrics"]
    return {metric: mean(scored["metrics"][metric]["score"] for scored in sets.values()) for metric in metrics}


def _published(settings: dict[str, Any], average: dict[str, float] | None, test_sets: TestSets) -> list[dict[str, Any]]:
    """Return the papers' results of the same model, each with the difference of this average to that one.

    On other test sets than theirs there are none.
    """
    if isinstance(test_sets, OwnTestSets):
        rows = matching(settings, kinds=(published.IWSLT14,)) if published.is_iwslt14(test_sets.names) else []
        metric, key = TOKENIZED, "tokenized_bleu"
    else:
        rows = matching(settings) if test_sets.language_pair == newstest.PAPERS_PAIR else []
        metric, key = "BLEU", "average"
    matches = []
    for row in rows:
        difference = average[metric] - row[key] if average and row[key] is not None else None
        matches.append({"row": row, "difference": difference})
    return matches


def _score(hypotheses: list[str], name: str, test_sets: TestSets, comet: Comet | None) -> dict[str, Any]:
    sources, references = test_sets[name]
    metrics: dict[str, dict[str, Any]] = {}
    for metric in test_sets.metrics():
        result = metric.corpus_score(hypotheses, [references])
        metrics[result.name] = {"score": float(result.score), "signature": str(metric.get_signature())}
        if isinstance(metric, BLEU):
            metrics[result.name] |= {"brevity_penalty": result.bp, "length_ratio": result.ratio}
    if comet is not None:
        score = comet.system_score(sources, hypotheses, references)
        metrics["COMET"] = {"score": score, "signature": comet.signature}
    return {"sacrebleu": newstest.NEWSTESTS.get(name, name), "segments": len(hypotheses), "metrics": metrics}

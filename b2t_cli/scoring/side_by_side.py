"""What ``b2t score`` does with runs: scores each, and compares several of them with the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from b2t_common import run_folder
from b2t_common.errors import InputError

from .. import tables
from ..tables import Table
from . import comet
from .by_length import build_table, score_by_length
from .evaluation import Evaluation, evaluate
from .layout import bootstrap_table
from .score_tables import score_table
from .sets import TestSets, sets_of
from .significance import paired_bootstrap


def score_runs(
    runs: Sequence[Path],
    language_pair: str | None,
    comet_model: str | None,
    samples: int,
    output: Path | None,
    bounds: Sequence[int] = (),
) -> list[Table]:
    """Score runs on their test sets, write the scores into their folders, and return the tables to print.

    Args:
        runs: the runs' folders; with several of them each is compared with the first.
        language_pair: of the test sets that sacreBLEU has, such as ``en-de`` (default: that of the papers).
        comet_model: ``None`` for no COMET, empty for its default model.
        samples: number of samples of the paired bootstrap.
        output: where to write the comparison, without an ending (default: beside the scores of the first run).
        bounds: if there are some, the last tables are scores by length, as of
            :func:`~b2t_cli.scoring.by_length.score_by_length`, over all test sets of a run.

    Raises:
        InputError: a run lacks its translations or its model, the library of COMET, its model or a test set
            is missing, COMET is asked for translations in lower case, or the runs have different test sets.
    """
    if comet_model is not None:
        comet.require()
    test_sets = sets_of(runs, language_pair)
    if comet_model is not None and test_sets.lower_cased:
        raise InputError(
            f"--comet: the translations of {runs[0]} are in lower case, for which COMET's scores mean nothing"
        )
    model = None if comet_model is None else comet.load(comet_model)
    evaluations, shown = [], []
    for run, name in zip(runs, tables.labels(runs, 2), strict=True):
        evaluations.append(evaluate(run, name, test_sets, model))
        scores = evaluations[-1].scores
        shown = [score_table([scores])]
        tables.write(run / run_folder.SCORES, scores, shown)
    if len(evaluations) > 1:
        shown = _compare(evaluations, test_sets, samples, output or runs[0] / run_folder.COMPARISON)
    return shown + [_by_length(evaluation, test_sets, bounds) for evaluation in evaluations if bounds]


def _by_length(evaluation: Evaluation, test_sets: TestSets, bounds: Sequence[int]) -> Table:
    hypotheses = [line for lines in evaluation.hypotheses.values() for line in lines]
    references = [line for name in evaluation.hypotheses for line in test_sets[name].references]
    sources = [line for name in evaluation.hypotheses for line in test_sets[name].sources]
    rows = score_by_length(hypotheses, references, sources, bounds, test_sets.metrics())
    return build_table(rows, evaluation.scores["run"])


def _compare(evaluations: list[Evaluation], test_sets: TestSets, samples: int, prefix: Path) -> list[Table]:
    runs = [evaluation.scores for evaluation in evaluations]
    tests = paired_bootstrap(evaluations, test_sets, samples)
    shown = [score_table(runs), bootstrap_table(tests, samples)]
    tables.write(prefix, {"runs": runs, "bootstrap": {"samples": samples, "sets": tests}}, shown)
    return shown

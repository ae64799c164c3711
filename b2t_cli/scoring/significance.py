"""Whether one run is better than another: sacreBLEU's paired bootstrap resampling (Koehn 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sacrebleu.significance import PairedTest

from .evaluation import Evaluation
from .sets import TestSets


def paired_bootstrap(evaluations: Sequence[Evaluation], test_sets: TestSets, samples: int) -> dict[str, Any]:
    """Compare every run with the first one, in BLEU and chrF, on each test set that both have translated.

    Args:
        evaluations: the runs.
        test_sets: the test sets.
        samples: how often the sentences are resampled.

    Returns:
        For each test set and metric the ``signature`` and ``runs``.  A run has its ``score``, the ``mean`` of the
        resampled scores with half the width of their 95% interval ``ci``, the ``difference`` to the first run and the
        ``p_value``.  The latter is ``None`` for translations that are identical to those of the first run, for which
        sacreBLEU would give 1 / (samples + 1), as if they differed significantly.
    """
    first, *others = evaluations
    tests: dict[str, Any] = {}
    for name, baseline in first.hypotheses.items():
        systems: list[tuple[str, Sequence[str]]]
        systems = [(e.scores["run"], e.hypotheses[name]) for e in others if name in e.hypotheses]
        if not systems:
            continue
        systems.insert(0, (first.scores["run"], baseline))
        metrics = {type(metric).__name__: metric for metric in test_sets.metrics()}
        references = [test_sets[name].references]
        test = PairedTest(systems, metrics, references, test_type="bs", n_samples=samples)
        signatures, results = cast(tuple[dict[str, Any], dict[str, Any]], test())
        tests[name] = {
            metric: {
                "signature": str(signature),
                "runs": [
                    {
                        "run": run,
                        "score": float(result.score),
                        "mean": float(result.mean),
                        "ci": float(result.ci),
                        "difference": float(result.score - results[metric][0].score),
                        "p_value": None if lines == baseline else float(result.p_value),
                    }
                    for (run, lines), result in zip(systems, results[metric], strict=True)
                ],
            }
            for metric, signature in signatures.items()
        }
    return tests

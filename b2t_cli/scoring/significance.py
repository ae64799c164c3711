"""Is one run better than another?  sacreBLEU's paired bootstrap resampling (Koehn 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sacrebleu.significance import PairedTest

from .runs import Evaluation, TestSets


def paired_bootstrap(evaluations: Sequence[Evaluation], test_sets: TestSets, samples: int) -> dict[str, Any]:
    """Compare every run with the first on each test set that both have, in BLEU and chrF.

    Returns:
        For each set and metric the signature and for each run its ``score``, the ``mean`` of the resampled scores
        with half the width ``ci`` of their 95% interval, the ``difference`` to the first and the ``p_value``, ``None``
        where the translations are those of the first: sacreBLEU gives 1 / (samples + 1) there, as if it were
        significant.
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

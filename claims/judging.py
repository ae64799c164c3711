"""How the numbers decide each claim."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

from b2t_cli.analysis.positions import AFTER_NORM
from b2t_cli.analysis.summary import reaching_bottom
from claims.configurations import LABELS, TITLES
from claims.evidence import SEEDS, Evidence, mean_and_range, top_third
from claims.verdicts import always, below, better, verdict

LEARNED = 5.0
"""BLEU of a model that has learned to translate, at the least."""
FAILED = 0.2
"""A run has failed if it diverged (``b2t report``), or if its BLEU is less than this part of the best run's."""
AS_GOOD = 0.02
"""Bits of mean validation loss by which a model may be above another and still count as at least as good."""
DECAYED = 0.1
"""A gradient of which less than this reaches the bottom has vanished on the way."""
SAME_SPEED = 0.1
"""Two models train equally fast if the ratio of their speeds is as near to 1 as this."""

FAILURE = f"failed: diverged by `b2t report`, or BLEU below {FAILED:.0%} of the best, which must be above {LEARNED:g}"


class Judgement(NamedTuple):
    """A verdict, and the numbers that it follows from in one sentence."""

    verdict: str
    reason: str


def against(evidence: Evidence, *pairs: tuple[str, str]) -> Judgement:
    """Judge by whether each configuration is better than its baseline."""
    answers = [better(evidence, *pair) for pair in pairs]
    return Judgement(verdict(answers), _differences(evidence, *pairs))


def _differences(evidence: Evidence, *pairs: tuple[str, str]) -> str:
    found = [pair for pair in pairs if all(map(evidence.of, pair))]
    return "; ".join(_difference(evidence, *pair) for pair in found) or "not run yet"


def _difference(evidence: Evidence, config: str, baseline: str) -> str:
    ours, theirs = (statistics.mean(evidence.losses(name)) for name in (config, baseline))
    text = f"{LABELS[config]}, against {LABELS[baseline]}: loss {ours - theirs:+.3f}"
    tests = evidence.bootstrap(config, baseline)
    if tests:
        mean = statistics.mean(one["difference"] for one in tests)
        # identical translations have no p
        clear = sum((one["p_value"] or 1) < 0.05 and one["difference"] * mean > 0 for one in tests)
        text += f", BLEU {mean:+.2f} (p < 0.05 with {clear} of {len(tests)} seeds)"
    return text


def divergence(evidence: Evidence) -> Judgement:
    configs = ("post_ln_18l", "pre_ln_18l", "b2t_18l")
    runs = {config: evidence.of(config) for config in configs}
    best = max((run["bleu"] for found in runs.values() for run in found), default=0.0)
    fails = {c: [bool(run["diverged"]) or run["bleu"] < FAILED * best for run in found] for c, found in runs.items()}
    answers = [always([flag is (c == configs[0]) for flag in flags]) for c, flags in fails.items()]
    numbers = [
        f"{LABELS[c]}: {sum(fails[c])} of {len(found)}, BLEU {mean_and_range([run['bleu'] for run in found], '.2f')}"
        for c, found in runs.items()
    ]
    # where nothing has learned, nothing has failed
    return Judgement(verdict(answers if best > LEARNED else []), f"runs that failed: {'; '.join(numbers)}")


def order_at_6(evidence: Evidence) -> Judgement:
    post_ln, b2t, pre_ln = "post_ln_6l", "b2t_6l", "pre_ln_6l"
    answers = [_as_good(evidence.losses(post_ln), evidence.losses(b2t)), better(evidence, b2t, pre_ln)]
    return Judgement(verdict(answers), _differences(evidence, (b2t, post_ln), (b2t, pre_ln)))


def _as_good(ours: list[float], theirs: list[float]) -> bool | None:
    """Say whether losses are at least as good as others, which need not be worse."""
    if below(theirs, ours):
        return False
    if min(len(ours), len(theirs)) < SEEDS:
        return None
    return True if statistics.mean(ours) <= statistics.mean(theirs) + AS_GOOD else None


def vanishing(evidence: Evidence) -> Judgement:
    ratios = {
        scheme: [reaching_bottom(model["stacks"]["decoder"]) for model in models]
        for scheme, models in evidence.models(trained=False).items()
    }
    wanted = {"post_ln": True, "pre_ln": False, "b2t": False}
    answers = [
        always([(ratio < DECAYED) is vanishes for ratio in ratios.get(scheme, []) if ratio is not None])
        for scheme, vanishes in wanted.items()
    ]
    numbers = [f"{TITLES[scheme]} {mean_and_range(ratios.get(scheme, []), '.3g')}" for scheme in wanted]
    return Judgement(
        verdict(answers), f"gradient at the decoder's input by that at its output, fresh: {', '.join(numbers)}"
    )


def across_norms(evidence: Evidence) -> Judgement:
    models = evidence.models(trained=False).get("post_ln", [])
    passed = [found for found in map(_passed, models) if found]
    norms, sublayers = ([math.prod(one[part]) for one in passed] for part in range(2))
    answers = [always([ratio < 1 for ratio in norms]), always([ratio >= 1 for ratio in sublayers])]
    return Judgement(
        verdict(answers),
        "gradient below by that above in a fresh Post-LN decoder, all of them multiplied: "
        f"norms {mean_and_range(norms, '.2g')}, residual sub-layers {mean_and_range(sublayers, '.3g')}",
    )


def _passed(model: dict) -> tuple[list[float], list[float]] | None:
    """Return the gradient below each norm of the decoder by that above it, and the same for sub-layers with residuals.

    ``None`` if it is not finite everywhere.
    """
    norms, sublayers = [], []
    for layer in model["stacks"]["decoder"]["layers"]:
        for lower, upper in itertools.pairwise(layer["positions"]):
            if None in (lower["gradient"], upper["gradient"]):
                return None
            parts = norms if upper["where"] == AFTER_NORM else sublayers
            parts.append(lower["gradient"] / upper["gradient"])
    return norms, sublayers


def top_layers(evidence: Evidence) -> Judgement:
    norms = {
        scheme: [top_third(model, "parameter_gradient") for model in models]
        for scheme, models in evidence.models(trained=False).items()
    }
    finite = {scheme: [norm for norm in found if norm is not None] for scheme, found in norms.items()}
    answers = [below(finite.get("pre_ln", []), finite.get(scheme, [])) for scheme in ("post_ln", "b2t")]
    numbers = [f"{TITLES[scheme]} {mean_and_range(found, '.2f')}" for scheme, found in norms.items()]
    return Judgement(
        verdict(answers),
        f"gradient of the parameters of the decoder's top third, fresh: {', '.join(numbers) or 'not measured'}",
    )


def faster(layers: int) -> Callable[[Evidence], Judgement]:
    """Return what judges whether M=6 and so many layers train faster than Universal."""

    def decide(low: float, high: float) -> bool | None:
        return True if low > 1 else False if high < 1 else None

    return lambda evidence: _speed(evidence, layers, decide)


def as_fast(layers: int) -> Callable[[Evidence], Judgement]:
    """Return what judges whether M=6 and so many layers train as fast as Universal."""

    def decide(low: float, high: float) -> bool | None:
        if low > 1 + SAME_SPEED or high < 1 - SAME_SPEED:
            return False
        return True if low >= 1 - SAME_SPEED and high <= 1 + SAME_SPEED else None

    return lambda evidence: _speed(evidence, layers, decide)


def _speed(evidence: Evidence, layers: int, decide: Callable[[float, float], bool | None]) -> Judgement:
    rows = (evidence.speed or {"rows": []})["rows"]
    row = next((row for row in rows if row["variant"].endswith(f"M=6, N={layers}")), None)
    if row is None:
        return Judgement(verdict([]), "not measured")
    low, high = row["speed_by_universal_quartiles"]
    where = evidence.speed["machine"].split(",")[0]
    return Judgement(
        verdict([decide(low, high)]),
        f"{row['speed_by_universal']:.2f} (quartiles {low:.2f} to {high:.2f}) times as fast on {where}",
    )

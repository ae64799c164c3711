"""The rule of each claim: how its numbers decide it."""

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
from claims.verdicts import below, better, unanimous, verdict

LEARNED = 5.0
"""A model has learned to translate if its BLEU is above this."""
FAILED = 0.2
"""A run failed if it diverged (``b2t report``), or if its BLEU is less than this part of the best run's."""
AS_GOOD = 0.02
"""A model counts as at least as good if its mean validation loss is at most this higher, in bits."""
DECAYED = 0.1
"""A gradient vanished if less than this part of it reaches the bottom."""
SAME_SPEED = 0.1
"""Two models train equally fast if the ratio of their speeds differs from 1 by at most this."""

FAILURE = (
    f"a run failed if `b2t report` says that it diverged, or if its BLEU is below {FAILED:.0%} of the best run's; "
    f"the best BLEU must be above {LEARNED:g}"
)


class Judgement(NamedTuple):
    """A verdict, one sentence with the numbers that it follows from, and the one number that matters most."""

    verdict: str
    reason: str
    number: str = ""


def against(evidence: Evidence, *pairs: tuple[str, str]) -> Judgement:
    """Judge whether each configuration is better than its baseline."""
    answers = [better(evidence, *pair) for pair in pairs]
    return Judgement(verdict(answers), _differences(evidence, *pairs))


def _differences(evidence: Evidence, *pairs: tuple[str, str]) -> str:
    finished = [pair for pair in pairs if all(map(evidence.of, pair))]
    return "; ".join(_difference(evidence, *pair) for pair in finished) or "not run yet"


def _difference(evidence: Evidence, config: str, baseline: str) -> str:
    ours, theirs = (statistics.mean(evidence.losses(name)) for name in (config, baseline))
    text = f"{LABELS[config]}, compared with {LABELS[baseline]}: loss {ours - theirs:+.3f}"
    tests = evidence.bootstrap(config, baseline)
    if tests:
        mean = statistics.mean(test["difference"] for test in tests)
        # identical translations have no p
        significant = sum((test["p_value"] or 1) < 0.05 and test["difference"] * mean > 0 for test in tests)
        text += f", BLEU {mean:+.2f} (p < 0.05 with {significant} of {len(tests)} seeds)"
    return text


def divergence(evidence: Evidence) -> Judgement:
    """Judge whether Post-LN fails to train with 18-18 layers, and Pre-LN and B2T do not."""
    configs = ("post_ln_18l", "pre_ln_18l", "b2t_18l")
    runs = {config: evidence.of(config) for config in configs}
    best = max((run["bleu"] for seeds in runs.values() for run in seeds), default=0.0)
    failures = {c: [bool(run["diverged"]) or run["bleu"] < FAILED * best for run in seeds] for c, seeds in runs.items()}
    answers = [unanimous([failed is (c == configs[0]) for failed in seeds]) for c, seeds in failures.items()]
    numbers = [
        f"{LABELS[c]}: {sum(failures[c])} of {len(seeds)}, BLEU {mean_and_range([run['bleu'] for run in seeds], '.2f')}"
        for c, seeds in runs.items()
    ]
    # If no model has learned to translate, the failures say nothing.
    return Judgement(verdict(answers if best > LEARNED else []), f"runs that failed: {'; '.join(numbers)}")


def order_at_6(evidence: Evidence) -> Judgement:
    """Judge whether with 6-6 layers Post-LN is at least as good as B2T, and B2T better than Pre-LN."""
    post_ln, b2t, pre_ln = "post_ln_6l", "b2t_6l", "pre_ln_6l"
    answers = [_as_good(evidence.losses(post_ln), evidence.losses(b2t)), better(evidence, b2t, pre_ln)]
    return Judgement(verdict(answers), _differences(evidence, (b2t, post_ln), (b2t, pre_ln)))


def _as_good(ours: list[float], theirs: list[float]) -> bool | None:
    """Say whether our losses are at least as good as theirs, ``None`` if that is not decided."""
    if below(theirs, ours):
        return False
    if min(len(ours), len(theirs)) < SEEDS:
        return None
    return True if statistics.mean(ours) <= statistics.mean(theirs) + AS_GOOD else None


def vanishing(evidence: Evidence) -> Judgement:
    """Judge whether the gradient vanishes in a new decoder of Post-LN, and not in those of Pre-LN and B2T."""
    ratios = {
        scheme: [reaching_bottom(model["stacks"]["decoder"]) for model in models]
        for scheme, models in evidence.models(trained=False).items()
    }
    expected = {"post_ln": True, "pre_ln": False, "b2t": False}
    answers = [
        unanimous([(ratio < DECAYED) is vanishes for ratio in ratios.get(scheme, []) if ratio is not None])
        for scheme, vanishes in expected.items()
    ]
    numbers = [f"{TITLES[scheme]} {mean_and_range(ratios.get(scheme, []), '.3g')}" for scheme in expected]
    reason = "gradient at the decoder's input divided by that at its output, in new models: "
    number = f"{mean_and_range(ratios.get('post_ln', []), '.2g')} of it arrives in Post-LN"
    return Judgement(verdict(answers), reason + ", ".join(numbers), number)


def across_norms(evidence: Evidence) -> Judgement:
    """Judge whether in a new Post-LN decoder the norms lower the gradient, and the sub-layers do not."""
    models = evidence.models(trained=False).get("post_ln", [])
    ratios = [pair for pair in map(_gradient_ratios, models) if pair]
    norms, sublayers = ([math.prod(pair[part]) for pair in ratios] for part in range(2))
    answers = [unanimous([ratio < 1 for ratio in norms]), unanimous([ratio >= 1 for ratio in sublayers])]
    return Judgement(
        verdict(answers),
        "gradient below divided by gradient above, multiplied over a new Post-LN decoder: "
        f"norms {mean_and_range(norms, '.2g')}, residual sub-layers {mean_and_range(sublayers, '.3g')}",
        f"norms leave {mean_and_range(norms, '.2g')} of it",
    )


def _gradient_ratios(model: dict) -> tuple[list[float], list[float]] | None:
    """Return the gradient below divided by the gradient above, for each norm and for each sub-layer of the decoder.

    A sub-layer includes its residual connection.  ``None`` if a gradient is not finite.
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
    """Judge whether in the decoder's top layers Post-LN and B2T have larger gradients than Pre-LN."""
    norms = {
        scheme: [top_third(model, "parameter_gradient") for model in models]
        for scheme, models in evidence.models(trained=False).items()
    }
    finite = {scheme: [norm for norm in seeds if norm is not None] for scheme, seeds in norms.items()}
    answers = [below(finite.get("pre_ln", []), finite.get(scheme, [])) for scheme in ("post_ln", "b2t")]
    numbers = [f"{TITLES[scheme]} {mean_and_range(seeds, '.2f')}" for scheme, seeds in norms.items()]
    reason = "gradient of the parameters in the decoder's top third, in new models: "
    means = {scheme: statistics.mean(seeds) for scheme, seeds in finite.items() if seeds}
    number = ""
    if means.keys() >= {"pre_ln", "post_ln", "b2t"}:
        number = f"{min(means['post_ln'], means['b2t']) / means['pre_ln']:.2f} times that of Pre-LN or more"
    return Judgement(verdict(answers), reason + (", ".join(numbers) or "not measured"), number)


def faster(layers: int) -> Callable[[Evidence], Judgement]:
    """Return the rule of M=6 with ``layers`` layers training faster than Universal."""

    def decide(low: float, high: float) -> bool | None:
        return True if low > 1 else False if high < 1 else None

    return lambda evidence: _speed(evidence, layers, decide)


def as_fast(layers: int) -> Callable[[Evidence], Judgement]:
    """Return the rule of M=6 with ``layers`` layers training as fast as Universal."""

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
    machine = evidence.speed["machine"].split(",")[0]
    return Judgement(
        verdict([decide(low, high)]),
        f"{row['speed_by_universal']:.2f} (quartiles {low:.2f} to {high:.2f}) times as fast on {machine}",
        f"{row['speed_by_universal']:.2f} times as fast",
    )

"""How the numbers decide each claim."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

from claims.configurations import LABELS, TITLES
from claims.evidence import Evidence, mean_and_range
from claims.verdicts import FAILS, always, better, verdict

FAILED = 0.2
"""A run has failed if it diverged (``b2t report``), or if its BLEU is less than this part of the best other one's."""
DECAYED = 0.1
"""A gradient of which less than this reaches the bottom has vanished on the way."""
PUBLISHED_SPEED = {"12": 1.31, "18": 0.98}
"""Training speed of M=6 and so many layers against Universal's."""
SAME_SPEED = 0.1
"""Two speeds whose ratio is this near to another ratio are as that one says."""


class Judgement(NamedTuple):
    """A verdict, and the numbers that it follows from in one sentence."""

    verdict: str
    reason: str


def against(evidence: Evidence, *pairs: tuple[str, str], wanted: bool = True) -> Judgement:
    """Judge by whether each configuration is better than its baseline."""
    answers, sentences = [], []
    for config, baseline in pairs:
        answer = better(evidence, config, baseline)
        answers.append(answer if wanted or answer is None else not answer)
        if evidence.of(config) and evidence.of(baseline):
            sentences.append(_difference(evidence, config, baseline))
    return Judgement(verdict(answers), "; ".join(sentences) or "not run yet")


def _difference(evidence: Evidence, config: str, baseline: str) -> str:
    ours, theirs = evidence.losses(config), evidence.losses(baseline)
    text = f"{LABELS[config]} {statistics.mean(ours) - statistics.mean(theirs):+.3f} bits against {LABELS[baseline]}"
    tests = evidence.bootstrap(config, baseline)
    if tests:
        difference = statistics.mean(one["difference"] for one in tests)
        clear = sum(one["p_value"] is not None and one["p_value"] < 0.05 for one in tests)
        text += f", BLEU {difference:+.2f} (p < 0.05 with {clear} of {len(tests)} seeds)"
    return text


def divergence(evidence: Evidence) -> Judgement:
    configs = ("post_ln_18l", "pre_ln_18l", "b2t_18l")
    runs = {config: evidence.of(config) for config in configs}
    best = max((run["bleu"] for found in runs.values() for run in found), default=0.0)
    fails = {c: [bool(run["diverged"]) or run["bleu"] < FAILED * best for run in found] for c, found in runs.items()}
    answers = [always([flag is (c == configs[0]) for flag in flags]) for c, flags in fails.items()]
    numbers = [
        f"{LABELS[c]} {sum(fails[c])} of {len(found)} (BLEU {mean_and_range([run['bleu'] for run in found], '.2f')})"
        for c, found in runs.items()
    ]
    return Judgement(verdict(answers), f"runs that failed: {', '.join(numbers)}")


def order_at_6(evidence: Evidence) -> Judgement:
    worse = against(evidence, ("b2t_6l", "post_ln_6l"), wanted=False)
    rest = against(evidence, ("b2t_6l", "pre_ln_6l"))
    # B2T may be as good as Post-LN, so that it is not better is enough
    return Judgement(rest.verdict if worse.verdict != FAILS else worse.verdict, f"{worse.reason}; {rest.reason}")


def vanishing(evidence: Evidence) -> Judgement:
    ratios = {scheme: [_reaching(model) for model in models] for scheme, models in evidence.models(False).items()}
    wanted = {"post_ln": True, "pre_ln": False, "b2t": False}
    answers = [
        always([(r < DECAYED) is vanishes for r in ratios.get(scheme, [])]) for scheme, vanishes in wanted.items()
    ]
    numbers = [f"{TITLES[scheme]} {mean_and_range(ratios.get(scheme, []), '.3g')}" for scheme in wanted]
    return Judgement(
        verdict(answers), f"gradient at the decoder's input by that at its output, fresh: {', '.join(numbers)}"
    )


def _reaching(model: dict) -> float:
    layers = model["stacks"]["decoder"]["layers"]
    return layers[0]["positions"][0]["gradient"] / layers[-1]["gradient"]


def across_norms(evidence: Evidence) -> Judgement:
    models = evidence.models(False).get("post_ln", [])
    steps = [_steps(model) for model in models]
    norms, sublayers = ([statistics.median(step[i]) for step in steps] for i in range(2))
    answers = [always([ratio < 1 for ratio in norms]), always([ratio >= 1 for ratio in sublayers])]
    return Judgement(
        verdict(answers),
        "what is left of the gradient in the decoder of fresh Post-LN, median: "
        f"through a norm {mean_and_range(norms)}, through a residual sub-layer {mean_and_range(sublayers)}",
    )


def _steps(model: dict) -> tuple[list[float], list[float]]:
    """Return what part of the gradient is left below each norm, and below each sub-layer with its residual."""
    norms, sublayers = [], []
    for layer in model["stacks"]["decoder"]["layers"]:
        gradients = [position["gradient"] for position in layer["positions"]]
        for index, position in enumerate(layer["positions"][1:], 1):
            steps = norms if position["where"] == "after norm" else sublayers
            steps.append(gradients[index - 1] / gradients[index])
    return norms, sublayers


def top_layers(evidence: Evidence) -> Judgement:
    norms = {scheme: [_top(model) for model in models] for scheme, models in evidence.models(False).items()}
    pairs = [
        (scheme, list(zip(norms.get(scheme, []), norms.get("pre_ln", []), strict=False)))
        for scheme in ("post_ln", "b2t")
    ]
    answers = [always([ours > theirs for ours, theirs in found]) for _, found in pairs]
    numbers = [f"{TITLES[scheme]} {mean_and_range(found, '.2f')}" for scheme, found in norms.items()]
    return Judgement(
        verdict(answers), f"gradient of the parameters of the decoder's top third, fresh: {', '.join(numbers)}"
    )


def _top(model: dict) -> float:
    layers = model["stacks"]["decoder"]["layers"]
    return statistics.mean(layer["parameter_gradient"] for layer in layers[-len(layers) // 3 :])


def speed(layers: str) -> Callable[[Evidence], Judgement]:
    def judge(evidence: Evidence) -> Judgement:
        rows = {row["variant"]: row for row in (evidence.speed or {"rows": []})["rows"]}
        found = next((row for name, row in rows.items() if f"N={layers}" in name), None)
        if found is None:
            return Judgement(verdict([]), "not measured")
        ratio, published = found["speed_by_universal"], PUBLISHED_SPEED[layers]
        low, high = found["speed_by_universal_quartiles"]
        answer = abs(ratio - published) < SAME_SPEED
        where = evidence.speed["machine"].split(",")[0]
        return Judgement(
            verdict([answer]),
            f"{ratio:.2f} ({low:.2f} to {high:.2f}) times Universal's on {where}, published {published} on GPUs",
        )

    return judge

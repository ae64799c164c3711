"""The claims: what the papers say, which runs it takes, and how their numbers decide.

To add one, put it into ``CLAIMS``; the driver, the tables, the figures and the tests read that list.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

if __package__ is None or not __package__:
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from claims.evidence import Evidence, mean_and_range
from claims.verdicts import always, better, verdict

B2T_PAPER, SHARING_PAPER, NEITHER = "B2T paper", "sharing paper", "in neither paper"
GRADIENTS, SPEED = "gradients", "speed"

LABELS = {
    "post_ln_18l": "Post-LN, 18-18",
    "post_ln_18l_slow": "Post-LN, 18-18, a quarter of the learning rate",
    "pre_ln_18l": "Pre-LN, 18-18",
    "b2t_18l": "B2T, 18-18",
    "post_ln_6l": "Post-LN, 6-6 (Vanilla)",
    "pre_ln_6l": "Pre-LN, 6-6",
    "b2t_6l": "B2T, 6-6",
    "b2t_18l_scaled_init": "B2T, 18-18, depth-scaled initialization",
    "b2t_18l_word_dropout": "B2T, 18-18, word dropout 0.1",
    "admin_6l": "Admin, 6-6",
    "sequence_12": "Admin, Sequence, M=6, N=12",
    "cycle_12": "Admin, Cycle, M=6, N=12",
    "cycle_rev_12": "Admin, Cycle (rev), M=6, N=12",
    "cycle_rev_18": "Admin, Cycle (rev), M=6, N=18",
    "universal": "Universal: Admin, M=1, N=6, twice the width",
    "b2t_cycle_rev_12": "B2T, Cycle (rev), M=6, N=12",
    "b2t_cycle_rev_18": "B2T, Cycle (rev), M=6, N=18",
    "b2t_cycle_rev_36": "B2T, Cycle (rev), M=6, N=36",
}
"""What the tables call the configurations of ``configs/claims``."""

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


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: for ``--only``.
        source: whose it is.
        statement: one sentence.
        configs: the configurations that it takes.
        judge: decides.
        pairs: configurations and baselines whose translations are compared.
        needs: what else is measured for it.
    """

    name: str
    source: str
    statement: str
    configs: tuple[str, ...]
    judge: Callable[[Evidence], Judgement]
    pairs: tuple[tuple[str, str], ...] = ()
    needs: str = ""


def _against(evidence: Evidence, *pairs: tuple[str, str], wanted: bool = True) -> Judgement:
    """Judge by whether each configuration is better than its baseline."""
    answers, sentences = [], []
    for config, baseline in pairs:
        answer = better(evidence, config, baseline)
        answers.append(answer if wanted or answer is None else not answer)
        sentences.append(_difference(evidence, config, baseline))
    return Judgement(verdict(answers), "; ".join(sentences))


def _difference(evidence: Evidence, config: str, baseline: str) -> str:
    ours, theirs = evidence.losses(config), evidence.losses(baseline)
    if not ours or not theirs:
        return f"{LABELS[config]} against {LABELS[baseline]}: not run"
    text = f"{LABELS[config]} {statistics.mean(ours) - statistics.mean(theirs):+.3f} bits against {LABELS[baseline]}"
    tests = evidence.bootstrap(config, baseline)
    if tests:
        difference = statistics.mean(one["difference"] for one in tests)
        clear = sum(one["p_value"] is not None and one["p_value"] < 0.05 for one in tests)
        text += f", BLEU {difference:+.2f} (p < 0.05 with {clear} of {len(tests)} seeds)"
    return text


def _divergence(evidence: Evidence) -> Judgement:
    configs = ("post_ln_18l", "pre_ln_18l", "b2t_18l")
    diverged = {config: [bool(run["diverged"]) for run in evidence.of(config)] for config in configs}
    fails = always(diverged["post_ln_18l"])
    trains = [always([not flag for flag in diverged[config]]) for config in configs[1:]]
    counts = [f"{LABELS[config]} in {sum(flags)} of {len(flags)} runs" for config, flags in diverged.items()]
    return Judgement(verdict([fails, *trains]), f"diverged: {', '.join(counts)}")


def _order_at_6(evidence: Evidence) -> Judgement:
    worse = _against(evidence, ("b2t_6l", "post_ln_6l"), wanted=False)
    rest = _against(evidence, ("b2t_6l", "pre_ln_6l"))
    # B2T may be as good as Post-LN, so that it is not better is enough
    return Judgement(
        rest.verdict if worse.verdict != "does not hold" else worse.verdict, f"{worse.reason}; {rest.reason}"
    )


def _vanishing(evidence: Evidence) -> Judgement:
    ratios = {scheme: [_reaching(model) for model in models] for scheme, models in evidence.models(False).items()}
    wanted = {"post_ln": True, "pre_ln": False, "b2t": False}
    answers = [
        always([(r < DECAYED) is vanishes for r in ratios.get(scheme, [])]) for scheme, vanishes in wanted.items()
    ]
    numbers = [f"{scheme} {mean_and_range(ratios.get(scheme, []), 2)}" for scheme in wanted]
    return Judgement(
        verdict(answers), f"gradient at the decoder's input by that at its output, fresh: {', '.join(numbers)}"
    )


def _reaching(model: dict) -> float:
    layers = model["stacks"]["decoder"]["layers"]
    return layers[0]["positions"][0]["gradient"] / layers[-1]["gradient"]


def _across_norms(evidence: Evidence) -> Judgement:
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


def _top_layers(evidence: Evidence) -> Judgement:
    norms = {scheme: [_top(model) for model in models] for scheme, models in evidence.models(False).items()}
    pairs = [
        (scheme, list(zip(norms.get(scheme, []), norms.get("pre_ln", []), strict=False)))
        for scheme in ("post_ln", "b2t")
    ]
    answers = [always([ours > theirs for ours, theirs in found]) for _, found in pairs]
    numbers = [f"{scheme} {mean_and_range(found, 2)}" for scheme, found in norms.items()]
    return Judgement(
        verdict(answers), f"gradient of the parameters of the decoder's top third, fresh: {', '.join(numbers)}"
    )


def _top(model: dict) -> float:
    layers = model["stacks"]["decoder"]["layers"]
    return statistics.mean(layer["parameter_gradient"] for layer in layers[-len(layers) // 3 :])


def _speed(layers: str) -> Callable[[Evidence], Judgement]:
    def judge(evidence: Evidence) -> Judgement:
        rows = {row["variant"]: row for row in (evidence.speed or {"rows": []})["rows"]}
        found = next((row for name, row in rows.items() if f"N={layers}" in name), None)
        if found is None:
            return Judgement(verdict([]), "not measured")
        ratio, published = found["speed_ratio"], PUBLISHED_SPEED[layers]
        low, high = found["speed_ratio_quartiles"]
        answer = abs(ratio - published) < SAME_SPEED
        return Judgement(
            verdict([answer]), f"{ratio:.2f} ({low:.2f} to {high:.2f}) times Universal's, published {published}"
        )

    return judge


def _pairs(*pairs: tuple[str, str]) -> dict:
    configs = tuple(dict.fromkeys(config for pair in pairs for config in pair))
    return {"configs": configs, "pairs": pairs, "judge": lambda evidence: _against(evidence, *pairs)}


_SHARED_12 = ("sequence_12", "cycle_12", "cycle_rev_12")
_THREE_18 = ("post_ln_18l", "pre_ln_18l", "b2t_18l")

CLAIMS = (
    Claim(
        "divergence",
        B2T_PAPER,
        "With 18-18 layers Post-LN fails to train, Pre-LN and B2T train.",
        (*_THREE_18, "post_ln_18l_slow"),
        _divergence,
    ),
    Claim(
        "loss_18l",
        B2T_PAPER,
        "With 18-18 layers B2T reaches a lower loss than Pre-LN.",
        **_pairs(("b2t_18l", "pre_ln_18l")),
    ),
    Claim(
        "loss_6l",
        B2T_PAPER,
        "With 6-6 layers Post-LN is at least as good as B2T, and B2T better than Pre-LN.",
        ("post_ln_6l", "b2t_6l", "pre_ln_6l"),
        _order_at_6,
        (("b2t_6l", "post_ln_6l"), ("b2t_6l", "pre_ln_6l")),
    ),
    Claim(
        "vanishing_gradient",
        B2T_PAPER,
        "The gradient vanishes towards the bottom of an 18-layer decoder in Post-LN, not in Pre-LN and B2T.",
        _THREE_18,
        _vanishing,
        needs=GRADIENTS,
    ),
    Claim(
        "gradient_across_norms",
        B2T_PAPER,
        "Within a Post-LN layer it is the norms that lower the gradient.",
        _THREE_18,
        _across_norms,
        needs=GRADIENTS,
    ),
    Claim(
        "gradient_at_top",
        B2T_PAPER,
        "In high layers Post-LN and B2T have larger gradients than Pre-LN.",
        _THREE_18,
        _top_layers,
        needs=GRADIENTS,
    ),
    Claim(
        "scaled_init",
        "B2T release",
        "Depth-scaled initialization improves B2T with 18-18 layers.",
        **_pairs(("b2t_18l_scaled_init", "b2t_18l")),
    ),
    Claim(
        "word_dropout",
        "B2T release",
        "Word dropout improves B2T with 18-18 layers.",
        **_pairs(("b2t_18l_word_dropout", "b2t_18l")),
    ),
    Claim(
        "sharing_vanilla",
        SHARING_PAPER,
        "With as many parameters, any strategy with M=6, N=12 is better than M=N=6, Vanilla or Admin.",
        **_pairs(*((config, baseline) for config in _SHARED_12 for baseline in ("post_ln_6l", "admin_6l"))),
    ),
    Claim(
        "sharing_universal",
        SHARING_PAPER,
        "With as many parameters, any strategy with M=6, N=12 is better than Universal.",
        **_pairs(*((config, "universal") for config in _SHARED_12)),
    ),
    Claim(
        "sharing_deeper",
        SHARING_PAPER,
        "Cycle (rev) with M=6 is better with N=18 than with N=12.",
        **_pairs(("cycle_rev_18", "cycle_rev_12")),
    ),
    Claim(
        "speed_12",
        SHARING_PAPER,
        "M=6, N=12 trains 1.31 times as fast as Universal.",
        (),
        _speed("12"),
        needs=SPEED,
    ),
    Claim(
        "speed_18",
        SHARING_PAPER,
        "M=6, N=18 trains about as fast (0.98) as Universal.",
        (),
        _speed("18"),
        needs=SPEED,
    ),
    Claim(
        "b2t_sharing",
        NEITHER,
        "B2T with Cycle (rev) and M=6 gets better with depth: N=12 than B2T with M=N=6, N=18 than 12, N=36 than 18.",
        **_pairs(
            ("b2t_cycle_rev_12", "b2t_6l"),
            ("b2t_cycle_rev_18", "b2t_cycle_rev_12"),
            ("b2t_cycle_rev_36", "b2t_cycle_rev_18"),
        ),
    ),
    Claim(
        "b2t_or_admin",
        NEITHER,
        "Cycle (rev) with M=6, N=18 is better with B2T than with Admin.",
        **_pairs(("b2t_cycle_rev_18", "cycle_rev_18")),
    ),
)


def chosen(only: str) -> list[Claim]:
    """Return the claims of ``--only``, names with commas between them; empty: all.

    Raises:
        ValueError: one of them is unknown.
    """
    known = {claim.name: claim for claim in CLAIMS}
    names = only.split(",") if only else list(known)
    for name in names:
        if name not in known:
            raise ValueError(f"--only {name}: no such claim; choose some of {', '.join(known)}")
    return [known[name] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true", help="print names and statements")
    args = parser.parse_args()
    try:
        claims = chosen(args.only)
    except ValueError as error:
        parser.error(str(error))
    if args.list:
        for claim in claims:
            print(f"{claim.name:22} {claim.statement}")
        return
    # for the driver: the configurations, then what else is measured
    print(" ".join(dict.fromkeys(config for claim in claims for config in claim.configs)))
    print(" ".join(sorted({claim.needs for claim in claims} - {""})))


if __name__ == "__main__":
    main()

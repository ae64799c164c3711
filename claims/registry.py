"""The claims: what the papers say, which runs that needs, and which rule decides.

    python -m claims.registry --list             names and statements
    python -m claims.registry --only loss_18l    what claims/run.sh has to run and to measure

These are the claims that are decided by measurements, and those of the earlier runs, which share one learning rate;
claims/study has the claims that tuned runs decide.

A new claim goes into ``CLAIMS``; the driver, the tables and the tests read that list.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from claims import judging
from claims.evidence import Evidence
from claims.judging import Judgement
from claims.study.grid import PARTS

B2T_PAPER, B2T_RELEASE, SHARING_PAPER, NEITHER = "B2T paper", "B2T release", "sharing paper", "neither paper"
GRADIENTS, SPEED = "gradients", "speed"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: the name for ``--only``.
        source: the paper that makes the claim.
        statement: the claim in one sentence.
        configs: the configurations to train.
        judge: decides the claim.
        pairs: configurations and the baselines that their translations are compared with.
        rule: the rule in words, empty if each model of ``pairs`` must be better than its baseline.
        needs: what else to measure, ``GRADIENTS`` or ``SPEED``.
    """

    name: str
    source: str
    statement: str
    configs: tuple[str, ...]
    judge: Callable[[Evidence], Judgement]
    pairs: tuple[tuple[str, str], ...] = ()
    rule: str = ""
    needs: str = ""


def _pairs(*pairs: tuple[str, str]) -> dict:
    """Return the fields of a claim that each configuration is better than its baseline."""
    configs = tuple(dict.fromkeys(config for pair in pairs for config in pair))
    return {"configs": configs, "pairs": pairs, "judge": lambda evidence: judging.against(evidence, *pairs)}


_SHARED_12 = ("sequence_12", "cycle_12", "cycle_rev_12")
_THREE_18 = ("post_ln_18l", "pre_ln_18l", "b2t_18l")

CLAIMS = (
    Claim(
        "divergence",
        B2T_PAPER,
        "With 18-18 layers Post-LN fails to train, Pre-LN and B2T train.",
        _THREE_18,
        judging.divergence,
        rule=judging.FAILURE,
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
        judging.order_at_6,
        (("b2t_6l", "post_ln_6l"), ("b2t_6l", "pre_ln_6l")),
        rule=f'"at least as good": the mean loss is at most {judging.AS_GOOD} bits higher',
    ),
    Claim(
        "vanishing_gradient",
        B2T_PAPER,
        "The gradient vanishes towards the bottom of an 18-layer decoder in Post-LN, not in Pre-LN and B2T.",
        (),
        judging.vanishing,
        rule=f"the gradient vanished if less than {judging.DECAYED:.0%} of it reaches the decoder's input",
        needs=GRADIENTS,
    ),
    Claim(
        "gradient_across_norms",
        B2T_PAPER,
        "Within a Post-LN layer the norms lower the gradient, not the sub-layers.",
        (),
        judging.across_norms,
        rule="all norms of the decoder together lower the gradient, all sub-layers with their residuals do not",
        needs=GRADIENTS,
    ),
    Claim(
        "gradient_at_top",
        B2T_PAPER,
        "In the top layers Post-LN and B2T have larger gradients than Pre-LN.",
        (),
        judging.top_layers,
        rule="the mean over the decoder's top third with every seed is larger than that of Pre-LN with any seed",
        needs=GRADIENTS,
    ),
    Claim(
        "scaled_init",
        B2T_RELEASE,
        "Depth-scaled initialization improves B2T with 18-18 layers.",
        **_pairs(("b2t_18l_scaled_init", "b2t_18l")),
    ),
    Claim(
        "word_dropout",
        B2T_RELEASE,
        "Word dropout improves B2T with 18-18 layers.",
        **_pairs(("b2t_18l_word_dropout", "b2t_18l")),
    ),
    Claim(
        "sharing_vanilla",
        SHARING_PAPER,
        "With the same number of parameters, every strategy with M=6, N=12 is better than Vanilla and Admin, M=N=6.",
        **_pairs(*((config, baseline) for config in _SHARED_12 for baseline in ("post_ln_6l", "admin_6l"))),
    ),
    Claim(
        "sharing_universal",
        SHARING_PAPER,
        "With the same number of parameters, every strategy with M=6, N=12 is better than Universal.",
        **_pairs(*((config, "universal") for config in _SHARED_12)),
    ),
    Claim(
        "sharing_deeper",
        SHARING_PAPER,
        "Cycle (rev) with M=6 is better with N=18 than with N=12.",
        **_pairs(("cycle_rev_18", "cycle_rev_12")),
    ),
    Claim(
        "sharing_deeper_low_rate",
        SHARING_PAPER,
        "The same at a learning rate of 2e-3: Cycle (rev) with M=6 is better with N=18 than with N=12.",
        **_pairs(("cycle_rev_18_low_rate", "cycle_rev_12_low_rate")),
    ),
    Claim(
        "speed_12",
        SHARING_PAPER,
        "M=6, N=12 trains faster than Universal (published: 1.31 times as fast).",
        (),
        judging.faster(12),
        rule="both quartiles are above 1",
        needs=SPEED,
    ),
    Claim(
        "speed_18",
        SHARING_PAPER,
        "M=6, N=18 trains about as fast as Universal (published: 0.98 times as fast).",
        (),
        judging.as_fast(18),
        rule=f"both quartiles are within {judging.SAME_SPEED} of 1; if both are above or both below, it does not hold",
        needs=SPEED,
    ),
    Claim(
        "b2t_sharing",
        NEITHER,
        "B2T with Cycle (rev) and M=6 improves with depth: N=12 is better than M=N=6, N=18 than N=12, N=36 than N=18.",
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
    Claim(
        "b2t_or_admin_low_rate",
        NEITHER,
        "The same at a learning rate of 2e-3: Cycle (rev) with M=6, N=18 is better with B2T than with Admin.",
        **_pairs(("b2t_cycle_rev_18_low_rate", "cycle_rev_18_low_rate")),
    ),
)


def select(only: str) -> tuple[list[Claim], list[str]]:
    """Return the claims, and the parts of the study, that ``--only`` names.

    Args:
        only: names with commas between them; empty selects everything.

    Raises:
        ValueError: there is no claim and no part of such a name.
    """
    known = {claim.name: claim for claim in CLAIMS}
    names = only.split(",") if only else [*known, *PARTS]
    for name in names:
        if name not in known and name not in PARTS:
            raise ValueError(f"--only {name}: there is no such claim; give some of {', '.join([*known, *PARTS])}")
    return [known[name] for name in names if name in known], [name for name in names if name in PARTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="CLAIM[,CLAIM]", help="default: all claims")
    parser.add_argument("--list", action="store_true", help="print names and statements")
    args = parser.parse_args()
    try:
        claims, parts = select(args.only)
    except ValueError as error:
        parser.error(str(error))
    if args.list:
        names = {claim.name: claim.statement for claim in claims} | {part: f"study: {PARTS[part]}" for part in parts}
        width = max(map(len, names))
        for name, text in names.items():
            print(f"{name:{width}}  {text}")
        return
    # claims/run.sh reads three lines: the configurations, what else to measure, and the parts of the study
    print(" ".join(dict.fromkeys(config for claim in claims for config in claim.configs)))
    print(" ".join(sorted({claim.needs for claim in claims} - {""})))
    print(",".join(parts))


if __name__ == "__main__":
    main()

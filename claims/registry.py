"""The claims: what the papers say, which runs it takes, and how their numbers decide.

To add one, put it into ``CLAIMS``; the driver, the tables, the figures and the tests read that list.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from claims import judging
from claims.evidence import Evidence
from claims.judging import Judgement

B2T_PAPER, B2T_RELEASE, SHARING_PAPER, NEITHER = "B2T paper", "B2T release", "sharing paper", "in neither"
GRADIENTS, SPEED = "gradients", "speed"


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
        rule: what decides where it is not that one model is better than another.
        needs: what else is measured for it.
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
        rule=f'"at least as good": mean loss at most {judging.AS_GOOD} bits higher',
    ),
    Claim(
        "vanishing_gradient",
        B2T_PAPER,
        "The gradient vanishes towards the bottom of an 18-layer decoder in Post-LN, not in Pre-LN and B2T.",
        (),
        judging.vanishing,
        rule=f"vanished: less than {judging.DECAYED:.0%} of the gradient at the decoder's output reaches its input",
        needs=GRADIENTS,
    ),
    Claim(
        "gradient_across_norms",
        B2T_PAPER,
        "Within a Post-LN layer it is the norms that lower the gradient.",
        (),
        judging.across_norms,
        rule="all norms of the decoder together pass less than all of it, all sub-layers with their residuals do not",
        needs=GRADIENTS,
    ),
    Claim(
        "gradient_at_top",
        B2T_PAPER,
        "In high layers Post-LN and B2T have larger gradients than Pre-LN.",
        (),
        judging.top_layers,
        rule="with every seed larger than with every seed, mean over the top third of the decoder",
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
        rule="both quartiles above 1",
        needs=SPEED,
    ),
    Claim(
        "speed_18",
        SHARING_PAPER,
        "M=6, N=18 trains about as fast as Universal (published: 0.98 times as fast).",
        (),
        judging.as_fast(18),
        rule=f"both quartiles within {judging.SAME_SPEED} of 1; not if both are beyond it on one side",
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
    Claim(
        "b2t_or_admin_low_rate",
        NEITHER,
        "The same at a learning rate of 2e-3: Cycle (rev) with M=6, N=18 is better with B2T than with Admin.",
        **_pairs(("b2t_cycle_rev_18_low_rate", "cycle_rev_18_low_rate")),
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
        width = max(len(claim.name) for claim in claims)
        for claim in claims:
            print(f"{claim.name:{width}}  {claim.statement}")
        return
    # for the driver: the configurations, then what else is measured
    print(" ".join(dict.fromkeys(config for claim in claims for config in claim.configs)))
    print(" ".join(sorted({claim.needs for claim in claims} - {""})))


if __name__ == "__main__":
    main()

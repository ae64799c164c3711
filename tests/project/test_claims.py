"""The claims: verdicts follow from the numbers by the written rules."""

import pytest
from claim_evidence import CLAIMS, REACHING_BOTTOM, bootstraps, judge, model, runs
from helpers import ROOT

from claims import judging, registry, verdicts
from claims.configurations import LABELS
from claims.study import grid
from claims.verdicts import FAILS, HOLDS, OPEN


class TestSeeds:
    @pytest.mark.parametrize(
        ("ours", "theirs", "expected"),
        [
            ([1, 2, 3], [4, 5, 6], True),
            ([4, 5, 6], [1, 2, 3], False),
            ([1, 2, 4], [4, 5, 6], None),
            ([1, 2, 5], [4, 5, 6], None),
            ([1, 2], [4, 5, 6], None),
            ([1, 2, 3], [4], None),
            ([], [], None),
        ],
    )
    def test_below(self, ours, theirs, expected):
        """All losses of one configuration are below all of the other, with three seeds at least; else it is open."""
        assert verdicts.below(ours, theirs) is expected

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [([True], HOLDS), ([True, None], OPEN), ([None, False], FAILS), ([True, False], FAILS), ([], OPEN)],
    )
    def test_verdict(self, answers, expected):
        """A claim holds if all its parts do, fails if one fails, and is open otherwise."""
        assert verdicts.verdict(answers) == expected

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [([True] * 3, True), ([False] * 3, False), ([True, True, False], None), ([True] * 2, None), ([], None)],
    )
    def test_unanimous(self, flags, expected):
        """Three seeds at least must agree."""
        assert verdicts.unanimous(flags) is expected

    def test_bleu_that_disagrees_leaves_it_open(self):
        losses = {"b2t_18l": [4.0, 4.1, 4.2], "pre_ln_18l": [5.0, 5.1, 5.2]}
        assert judge("loss_18l", runs=runs(losses), bootstraps=bootstraps(*losses, [1, 2, -1])).verdict == HOLDS
        assert judge("loss_18l", runs=runs(losses), bootstraps=bootstraps(*losses, [1, -2, -1])).verdict == OPEN
        # nothing says that they do not disagree
        assert judge("loss_18l", runs=runs(losses)).verdict == OPEN

    def test_a_claim_fails_if_all_seeds_say_the_opposite(self):
        losses = {"b2t_18l": [5.0, 5.1, 5.2], "pre_ln_18l": [4.0, 4.1, 4.2]}
        judgement = judge("loss_18l", runs=runs(losses), bootstraps=bootstraps(*losses, [-3, -2, -1]))
        assert judgement.verdict == FAILS
        assert judgement.reason == (
            "B2T, 18-18, compared with Pre-LN, 18-18: loss +1.000, BLEU -2.00 (p < 0.05 with 3 of 3 seeds)"
        )

    def test_seeds_that_contradict_each_other_are_not_counted_together(self):
        losses = {"b2t_18l": [5.0, 5.1, 5.2], "pre_ln_18l": [4.0, 4.1, 4.2]}
        tests = bootstraps(*losses, [-3, 2, -2])
        tests[2]["p_value"] = None
        assert "p < 0.05 with 1 of 3 seeds" in judge("loss_18l", runs=runs(losses), bootstraps=tests).reason

    def test_losses_that_are_not_finite_are_the_worst(self):
        losses = {"b2t_18l": [4.0, 4.1, 4.2], "pre_ln_18l": [None, None, 5.0]}
        measured = {"runs": runs({config: [loss or 5.0 for loss in seeds] for config, seeds in losses.items()})}
        for one, loss in zip(measured["runs"], [*losses["b2t_18l"], *losses["pre_ln_18l"]], strict=True):
            one["valid_loss"] = loss
        judgement = judge("loss_18l", **measured, bootstraps=bootstraps(*losses, [1, 1, 1]))
        assert judgement.verdict == HOLDS
        assert "loss -inf" in judgement.reason


class TestClaims:
    @pytest.mark.parametrize("name", CLAIMS)
    def test_without_numbers_nothing_is_decided(self, name):
        judgement = judge(name)
        assert judgement.verdict == OPEN
        assert judgement.reason

    @pytest.mark.parametrize("name", [claim.name for claim in registry.CLAIMS if claim.configs and not claim.needs])
    def test_one_seed_decides_nothing(self, name):
        losses = {config: [float(index)] for index, config in enumerate(CLAIMS[name].configs)}
        tests = [one for pair in CLAIMS[name].pairs for one in bootstraps(*pair, [1.0])]
        assert judge(name, runs=runs(losses), bootstraps=tests).verdict == OPEN
        # whichever of the configurations it is of which there is one only
        for few in losses:
            measured = {config: [4.0 + index] * 3 for index, config in enumerate(losses)} | {few: [9.0]}
            tests = [one for pair in CLAIMS[name].pairs for one in bootstraps(*pair, [1.0] * (1 if few in pair else 3))]
            assert judge(name, runs=runs(measured), bootstraps=tests).verdict != HOLDS

    def test_configurations(self):
        """Each file in claims/configs is of a claim and has a label, and each claim compares only its own."""
        files = {path.stem for path in (ROOT / "claims/configs").glob("[!_]*.sh")}
        assert files == set(LABELS)
        used = {config for claim in registry.CLAIMS for config in claim.configs}
        assert used == files
        for claim in registry.CLAIMS:
            assert {config for pair in claim.pairs for config in pair} <= set(claim.configs)

    def test_divergence(self):
        """Post-LN must fail to translate or diverge with every seed, and the others with none."""
        losses = {"post_ln_18l": [9.0] * 3, "pre_ln_18l": [5.0] * 3, "b2t_18l": [5.0] * 3}
        measured = runs(losses)
        assert judge("divergence", runs=measured).verdict == FAILS
        for one in measured[:3]:
            one["bleu"] = 2.0
        assert judge("divergence", runs=measured).verdict == HOLDS
        measured[0]["bleu"] = 15.0
        assert judge("divergence", runs=measured).verdict == OPEN
        measured[0]["diverged"] = {"update": 100, "reason": "rose"}
        assert judge("divergence", runs=measured).verdict == HOLDS
        measured[-1]["diverged"] = {"update": 100, "reason": "rose"}
        assert judge("divergence", runs=measured).verdict == OPEN
        # where nothing has learned to translate, nothing is decided
        for one in measured:
            one["bleu"] = 0.1
        assert judge("divergence", runs=measured).verdict == OPEN

    @pytest.mark.parametrize(
        ("post", "b2t", "pre", "expected"),
        [
            (4.0, 5.0, 6.0, HOLDS),
            (5.0, 5.0, 6.0, HOLDS),
            (6.0, 5.0, 7.0, FAILS),
            (4.0, 6.0, 5.0, FAILS),
            (4.0, 5.0, 5.0, OPEN),
            (5.01, 5.0, 6.0, HOLDS),
            (5.1, 5.0, 6.0, OPEN),
        ],
    )
    def test_order_at_6_layers(self, post, b2t, pre, expected):
        near = (0.0, 0.1, 0.2)
        means = {"post_ln_6l": post, "b2t_6l": b2t, "pre_ln_6l": pre}
        losses = {config: [mean + step for step in near] for config, mean in means.items()}
        tests = [
            one
            for other in ("post_ln_6l", "pre_ln_6l")
            for one in bootstraps("b2t_6l", other, [means[other] - b2t or 0.5] * 3)
        ]
        assert judge("loss_6l", runs=runs(losses), bootstraps=tests).verdict == expected

    def test_gradients(self):
        """The claims about gradients are decided by new models of three seeds, in whatever order."""
        measured = [
            model(scheme, seed, reaching, top={"pre_ln": 0.3}.get(scheme, 0.8))
            for scheme, reaching in REACHING_BOTTOM.items()
            for seed in (1, 2, 3)
        ]
        for name in ("vanishing_gradient", "gradient_across_norms", "gradient_at_top"):
            assert judge(name, gradients=measured).verdict == HOLDS
        # those of trained models do not count
        trained = [{**one, "updates": 2000} for one in measured]
        assert judge("vanishing_gradient", gradients=trained).verdict == OPEN
        # neither the order of the records counts nor how the seeds of one scheme go with those of another
        assert judge("gradient_at_top", gradients=measured[::-1]).verdict == HOLDS
        assert judge("gradient_at_top", gradients=[one for one in measured if one["seed"] > 1]).verdict == OPEN
        tops = {"pre_ln": 0.8}
        other = [
            model(one["residual"], one["seed"], 0.5, norm=1.2, top=tops.get(one["residual"], 0.3)) for one in measured
        ]
        for name in ("vanishing_gradient", "gradient_across_norms", "gradient_at_top"):
            assert judge(name, gradients=other).verdict == FAILS

    def test_what_norms_and_sublayers_let_through(self):
        norms, sublayers = judging._gradient_ratios(model("post_ln", 1, reaching=0.8 / 1.1**2, norm=0.8))
        assert norms == pytest.approx([0.8, 0.8] * 2)
        assert sublayers == pytest.approx([1 / 1.1, 1 / 0.88] * 2)

    def test_gradients_that_are_not_finite_decide_nothing(self):
        measured = [model("post_ln", seed, 0.02) for seed in (1, 2, 3)]
        for one in measured:
            one["stacks"]["decoder"]["layers"][0]["positions"][0]["gradient"] = None
        for name in ("vanishing_gradient", "gradient_across_norms"):
            judgement = judge(name, gradients=measured)
            assert judgement.verdict == OPEN
            assert judgement.reason.count(" -") >= 1

    @pytest.mark.parametrize(
        ("name", "quartiles", "expected"),
        [
            ("speed_12", [1.2, 2.0], HOLDS),
            ("speed_12", [0.9, 1.1], OPEN),
            ("speed_12", [0.7, 0.9], FAILS),
            ("speed_18", [0.95, 1.05], HOLDS),
            ("speed_18", [0.95, 1.15], OPEN),
            ("speed_18", [1.2, 1.4], FAILS),
            ("speed_18", [0.7, 0.85], FAILS),
        ],
    )
    def test_speed(self, name, quartiles, expected):
        """The quartiles of the relative speed decide, not its mean."""
        rows = [
            {
                "variant": variant,
                "speed_by_universal": sum(quartiles) / 2,
                "speed_by_universal_quartiles": quartiles,
            }
            for variant in ("Sequence, M=6, N=12", "Cycle (rev), M=6, N=18")
        ]
        assert judge(name, speed={"rows": rows, "machine": "a core, torch"}).verdict == expected

    @pytest.mark.parametrize("only", ["loss_18l", "loss_18l,speed_12", "seeds,speed_12", "depth", ""])
    def test_only_selects_claims(self, only):
        """--only takes names of claims and of parts of the study; without it everything is selected."""
        claims, parts = registry.select(only)
        names = {claim.name for claim in claims} | {*parts}
        assert names == ({*only.split(",")} if only else {*CLAIMS, *grid.PARTS})

    def test_an_unknown_claim_is_refused(self):
        with pytest.raises(ValueError, match="--only loss_19l: there is no such claim; give some of divergence, "):
            registry.select("loss_18l,loss_19l")

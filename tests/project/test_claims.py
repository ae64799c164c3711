"""The claims: verdicts follow from numbers by the written rules, and the driver's numbers become tables and figures."""

import json
import random
import re
import subprocess
import sys

import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import draw_claims
import tables_claims

from claims import evidence, gather, judging, registry, verdicts
from claims.configurations import LABELS
from claims.evidence import Evidence
from claims.verdicts import FAILS, HOLDS, OPEN

CLAIMS = {claim.name: claim for claim in registry.CLAIMS}
SCHEMES_18 = {"post_ln_18l": 0.02, "pre_ln_18l": 1.5, "b2t_18l": 0.3}


def run(config, seed, loss, bleu=20.0, diverged=None):
    about = {"hardware": "a core", "torch": "2", "python": "3", "commit": "abc", "date": "2026-01-01", "minutes": 5.0}
    residual = next((name for name in ("post_ln", "pre_ln", "b2t", "admin") if config.startswith(name)), "admin")
    model = {"residual": residual, "parameters": 1000, "valid_curve": [[100, loss + 1], [200, loss]]}
    return {"config": config, "seed": seed, "valid_loss": loss, "bleu": bleu, "diverged": diverged, **about, **model}


def runs(losses, **values):
    """Return runs of each configuration, from the losses of seeds 1, 2, ..."""
    return [run(config, seed, loss, **values) for config, found in losses.items() for seed, loss in enumerate(found, 1)]


def bootstraps(config, baseline, differences):
    both = {"config": config, "baseline": baseline, "p_value": 0.01}
    return [{**both, "seed": seed, "difference": difference} for seed, difference in enumerate(differences, 1)]


def model(residual, seed, reaching, norm=0.2, sublayer=1.1, top=1.0, updates=0):
    """Return an analysis of two layers whose decoder's gradient falls to ``reaching`` at its input."""
    places = [("input", reaching), ("before norm", norm / sublayer), ("after norm", 1 / sublayer)]
    places += [("before norm", norm), ("after norm", 1.0)]
    positions = [{"where": where, "sublayer": "", "gradient": gradient} for where, gradient in places]
    layer = {"gradient": 1.0, "positions": positions, "parameter_gradient": top, "angle": 20.0, "set": 0}
    # the second layer's input is the first one's output
    second = {**layer, "positions": [{**positions[0], "gradient": norm / sublayer**2}, *positions[1:]]}
    stack = {"embed_dim": 64, "layers": [layer, second], "sets": []}
    return {"residual": residual, "seed": seed, "updates": updates, "stacks": {"encoder": stack, "decoder": stack}}


def judge(name, **found):
    return CLAIMS[name].judge(
        Evidence(**{"runs": [], "bootstraps": [], "gradients": [], "schemes": [], "speed": None} | found)
    )


class TestRules:
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
        assert verdicts.below(ours, theirs) is expected

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [([True], HOLDS), ([True, None], OPEN), ([None, False], FAILS), ([True, False], FAILS), ([], OPEN)],
    )
    def test_verdict(self, answers, expected):
        assert verdicts.verdict(answers) == expected

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [([True] * 3, True), ([False] * 3, False), ([True, True, False], None), ([True] * 2, None), ([], None)],
    )
    def test_always(self, flags, expected):
        assert verdicts.always(flags) is expected

    def test_bleu_that_disagrees_leaves_it_open(self):
        losses = {"b2t_18l": [4.0, 4.1, 4.2], "pre_ln_18l": [5.0, 5.1, 5.2]}
        assert judge("loss_18l", runs=runs(losses), bootstraps=bootstraps(*losses, [1, 2, -1])).verdict == HOLDS
        assert judge("loss_18l", runs=runs(losses), bootstraps=bootstraps(*losses, [1, -2, -1])).verdict == OPEN
        # nothing says that they do not disagree
        assert judge("loss_18l", runs=runs(losses)).verdict == OPEN

    def test_the_other_way_round(self):
        losses = {"b2t_18l": [5.0, 5.1, 5.2], "pre_ln_18l": [4.0, 4.1, 4.2]}
        judgement = judge("loss_18l", runs=runs(losses), bootstraps=bootstraps(*losses, [-3, -2, -1]))
        assert judgement.verdict == FAILS
        assert judgement.reason == (
            "B2T, 18-18, against Pre-LN, 18-18: loss +1.000, BLEU -2.00 (p < 0.05 with 3 of 3 seeds)"
        )

    def test_seeds_that_contradict_each_other_are_not_counted_together(self):
        losses = {"b2t_18l": [5.0, 5.1, 5.2], "pre_ln_18l": [4.0, 4.1, 4.2]}
        tests = bootstraps(*losses, [-3, 2, -2])
        tests[2]["p_value"] = None
        assert "p < 0.05 with 1 of 3 seeds" in judge("loss_18l", runs=runs(losses), bootstraps=tests).reason

    def test_losses_that_are_not_finite_are_the_worst(self):
        losses = {"b2t_18l": [4.0, 4.1, 4.2], "pre_ln_18l": [None, None, 5.0]}
        found = {"runs": runs({config: [loss or 5.0 for loss in seeds] for config, seeds in losses.items()})}
        for one, loss in zip(found["runs"], [*losses["b2t_18l"], *losses["pre_ln_18l"]], strict=True):
            one["valid_loss"] = loss
        judgement = judge("loss_18l", **found, bootstraps=bootstraps(*losses, [1, 1, 1]))
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
            found = {config: [4.0 + index] * 3 for index, config in enumerate(losses)} | {few: [9.0]}
            tests = [one for pair in CLAIMS[name].pairs for one in bootstraps(*pair, [1.0] * (1 if few in pair else 3))]
            assert judge(name, runs=runs(found), bootstraps=tests).verdict != HOLDS

    def test_configurations(self):
        files = {path.stem for path in (ROOT / "configs/claims").glob("[!_]*.sh")}
        assert files == set(LABELS)
        used = {config for claim in registry.CLAIMS for config in claim.configs}
        assert used == files
        for claim in registry.CLAIMS:
            assert {config for pair in claim.pairs for config in pair} <= set(claim.configs)

    def test_divergence(self):
        losses = {"post_ln_18l": [9.0] * 3, "pre_ln_18l": [5.0] * 3, "b2t_18l": [5.0] * 3}
        found = runs(losses)
        assert judge("divergence", runs=found).verdict == FAILS
        for one in found[:3]:
            one["bleu"] = 2.0
        assert judge("divergence", runs=found).verdict == HOLDS
        found[0]["bleu"] = 15.0
        assert judge("divergence", runs=found).verdict == OPEN
        found[0]["diverged"] = {"update": 100, "reason": "rose"}
        assert judge("divergence", runs=found).verdict == HOLDS
        found[-1]["diverged"] = {"update": 100, "reason": "rose"}
        assert judge("divergence", runs=found).verdict == OPEN
        # where nothing has learned to translate, nothing is decided
        for one in found:
            one["bleu"] = 0.1
        assert judge("divergence", runs=found).verdict == OPEN

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
        found = [
            model(scheme.removesuffix("_18l"), seed, reaching, top={"pre_ln_18l": 0.3}.get(scheme, 0.8))
            for scheme, reaching in SCHEMES_18.items()
            for seed in (1, 2, 3)
        ]
        for name in ("vanishing_gradient", "gradient_across_norms", "gradient_at_top"):
            assert judge(name, gradients=found).verdict == HOLDS
        # those of trained models do not count
        trained = [{**one, "updates": 2000} for one in found]
        assert judge("vanishing_gradient", gradients=trained).verdict == OPEN
        # neither the order of the records counts nor how the seeds of one scheme go with those of another
        assert judge("gradient_at_top", gradients=found[::-1]).verdict == HOLDS
        assert judge("gradient_at_top", gradients=[one for one in found if one["seed"] > 1]).verdict == OPEN
        tops = {"pre_ln": 0.8}
        other = [
            model(one["residual"], one["seed"], 0.5, norm=1.2, top=tops.get(one["residual"], 0.3)) for one in found
        ]
        for name in ("vanishing_gradient", "gradient_across_norms", "gradient_at_top"):
            assert judge(name, gradients=other).verdict == FAILS

    def test_what_norms_and_sublayers_let_through(self):
        norms, sublayers = judging._passed(model("post_ln", 1, reaching=0.8 / 1.1**2, norm=0.8))
        assert norms == pytest.approx([0.8, 0.8] * 2)
        assert sublayers == pytest.approx([1 / 1.1, 1 / 0.88] * 2)

    def test_gradients_that_are_not_finite_decide_nothing(self):
        found = [model("post_ln", seed, 0.02) for seed in (1, 2, 3)]
        for one in found:
            one["stacks"]["decoder"]["layers"][0]["positions"][0]["gradient"] = None
        for name in ("vanishing_gradient", "gradient_across_norms"):
            judgement = judge(name, gradients=found)
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
        rows = [
            {
                "variant": variant,
                "speed_by_universal": sum(quartiles) / 2,
                "speed_by_universal_quartiles": quartiles,
            }
            for variant in ("Sequence, M=6, N=12", "Cycle (rev), M=6, N=18")
        ]
        assert judge(name, speed={"rows": rows, "machine": "a core, torch"}).verdict == expected

    @pytest.mark.parametrize("only", ["loss_18l", "loss_18l,speed_12", ""])
    def test_chosen(self, only):
        names = [claim.name for claim in registry.chosen(only)]
        assert names == (only.split(",") if only else list(CLAIMS))

    def test_unknown(self):
        with pytest.raises(ValueError, match="--only loss_19l: no such claim; choose some of divergence, "):
            registry.chosen("loss_18l,loss_19l")


class TestTables:
    @pytest.fixture
    def found(self):
        losses = {config: [5.0 + index, 5.1 + index, 5.2 + index] for index, config in enumerate(LABELS)}
        pairs = {pair for claim in registry.CLAIMS for pair in claim.pairs}
        gradients = [
            model(scheme.removesuffix("_18l"), seed, reaching, updates=updates)
            for scheme, reaching in SCHEMES_18.items()
            for seed in (1, 2, 3)
            for updates in (0, 2000)
        ]
        tests = [one for pair in pairs for one in bootstraps(*pair, [1.0, 1.0, 1.0])]
        return Evidence(runs(losses), tests, gradients, [], None)

    def test_all_rows_have_as_many_cells(self, found):
        # one that has nothing finite is a row too
        found.runs[0]["valid_loss"] = None
        found.gradients[0]["stacks"]["encoder"]["layers"][0]["positions"][0]["gradient"] = None
        tables = [tables_claims.rules_table()]
        tables += [
            getattr(tables_claims, name)(found)
            for name in ("verdicts_table", "runs_table", "comparisons_table", "gradients_table")
        ]
        for table in tables:
            lines = table.splitlines()
            assert len(lines) > 2
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1

    def test_numbers(self, found):
        assert (
            "| 1,000 | 1, 2, 3 | 5.100 (5.000 to 5.200) | 20.00 (20.00 to 20.00) | 0 of 3 |"
            in tables_claims.runs_table(found)
        )
        assert tables_claims.conditions(found).startswith(f"{3 * len(LABELS)} runs, each with 5 to 5 minutes")

    def test_figures(self, found):
        drawn = draw_claims.drawn(found)
        assert set(drawn) == {"losses.svg", "gradients.svg", "shared.svg"}
        assert all(content.lstrip().startswith(b"<?xml") for content in drawn.values())
        for text in ("Post-LN", "B2T", "18-18 layers", "6-6 layers"):
            assert text in drawn["losses.svg"].decode()

    def test_a_figure_of_all_schemes_shows_each_once(self, monkeypatch):
        monkeypatch.setattr(draw_claims.figures, "draw", lambda models: {"analysis": {"svg": models}})
        models = [model(residual, seed, 0.3) for residual in ("b2t", "pre_ln") for seed in (2, 1)]
        assert draw_claims.drawn(Evidence([], [], [], models, None)) == {"schemes.svg": [models[1], models[3]]}

    def test_what_is_published_is_of_the_present_settings(self):
        """All runs of one recipe, and of the one that the configurations have."""
        published = evidence.read()
        common = (ROOT / "claims/configs/_common.sh").read_text()
        assert {run["updates"] for run in published.runs} <= {int(re.search(r"max_update=(\d+)", common)[1])}
        assert len({run["common_settings"] for run in published.runs}) <= 1
        runs = {(run["config"], run["seed"]) for run in published.runs}
        for one in published.bootstraps:
            assert {(one["config"], one["seed"]), (one["baseline"], one["seed"])} <= runs

    def test_what_the_page_names_exists(self):
        text = (ROOT / "docs/results.md").read_text()
        for name in re.findall(r"\(../claims/results/(\S+)\)", text):
            assert (evidence.RESULTS / name).is_file()
        for name in re.findall(r"--only (\w+)", text):
            assert name in CLAIMS


class TestGathering:
    def test_merging(self, tmp_path):
        path = tmp_path / "runs.json"
        gather.merge(path, [{"config": "b", "seed": 1, "x": 1}, {"config": "a", "seed": 2, "x": 2}], ("config", "seed"))
        gather.merge(path, [{"config": "a", "seed": 2, "x": 3}, {"config": "a", "seed": 1, "x": 4}], ("config", "seed"))
        found = json.loads(path.read_text())
        assert [(one["config"], one["seed"], one["x"]) for one in found] == [("a", 1, 4), ("a", 2, 3), ("b", 1, 1)]
        assert [entry.name for entry in tmp_path.iterdir()] == ["runs.json"]

    def test_what_had_other_settings_is_left_out(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(gather, "record", lambda folder: self.recorded(folder))
        monkeypatch.setattr(gather, "bootstrap", self.compared)
        results = tmp_path / "results"
        results.mkdir()

        def published(name):
            return [
                (*(one[key] for key in ("config", "baseline", "seed") if key in one), one["settings"])
                for one in json.loads((results / f"{name}.json").read_text())
            ]

        self.write_runs(tmp_path / "a", "slow", {"b2t_18l": "x", "pre_ln_18l": "x", "b2t_6l": "x"})
        gather.gather(tmp_path / "a", results)
        assert published("runs") == [("b2t_18l", 1, "x"), ("b2t_6l", 1, "x"), ("pre_ln_18l", 1, "x")]
        assert published("bootstraps") == [("b2t_18l", "pre_ln_18l", 1, ["x", "x"])]
        # one configuration has changed: its comparison with what it was is gone
        self.write_runs(tmp_path / "b", "slow", {"b2t_18l": "y"})
        gather.gather(tmp_path / "b", results)
        assert published("runs") == [("b2t_18l", 1, "y"), ("b2t_6l", 1, "x"), ("pre_ln_18l", 1, "x")]
        assert published("bootstraps") == []
        # what all have in common has changed
        self.write_runs(tmp_path / "c", "fast", {"post_ln_6l": "z"})
        gather.gather(tmp_path / "c", results)
        assert published("runs") == [("post_ln_6l", 1, "z")]
        assert "runs.json: 3 records of other settings are left out" in capsys.readouterr().out
        # an analysis of fresh models has no settings, one without runs changes none
        (tmp_path / "d").mkdir()
        gather.gather(tmp_path / "d", results)
        assert published("runs") == [("post_ln_6l", 1, "z")]

    @staticmethod
    def write_runs(out, common, settings):
        for config, value in settings.items():
            folder = out / config / "seed1"
            folder.mkdir(parents=True)
            (folder / "score.txt").write_text("")
            (folder / "settings").write_text(f"{value} {common}")

    @staticmethod
    def recorded(folder):
        settings, common = (folder / "settings").read_text().split()
        return {"config": folder.parent.name, "seed": 1, "settings": settings, "common_settings": common}

    @classmethod
    def compared(cls, out, config, baseline, seed):
        settings = [cls.recorded(out / name / f"seed{seed}")["settings"] for name in (config, baseline)]
        return {"config": config, "baseline": baseline, "seed": seed, "settings": settings}

    def test_bootstrap(self, tmp_path):
        references = [f"ein Hund läuft über die Wiese Nummer {number}" for number in range(40)]
        (tmp_path / "corpus/raw").mkdir(parents=True)
        (tmp_path / "corpus/raw/test_2016_flickr.de").write_text("\n".join(references) + "\n")
        translations = {"good": references, "same": references, "bad": ["ein Hund läuft über etwas anderes"] * 40}
        for config, lines in translations.items():
            (tmp_path / config / "seed1").mkdir(parents=True)
            (tmp_path / config / "seed1/hypotheses.de").write_text("\n".join(lines) + "\n")
            (tmp_path / config / "seed1/configuration.txt").write_text("all the same\n")
        digest = gather._digest(tmp_path / "good/seed1/configuration.txt")
        worse = gather.bootstrap(tmp_path, "bad", "good", 1)
        assert worse["difference"] < -20
        assert worse["p_value"] < 0.05
        assert gather.bootstrap(tmp_path, "good", "bad", 1)["difference"] == -worse["difference"]
        assert gather.bootstrap(tmp_path, "same", "good", 1) == {
            **{"config": "same", "baseline": "good", "seed": 1, "settings": [digest] * 2},
            **{"difference": 0.0, "p_value": None},
        }

    def test_analyses(self, tmp_path):
        for name in ("fresh-seed1", "all-seed2"):
            (tmp_path / "analysis" / name).mkdir(parents=True)
            content = {"models": [{"residual": "b2t", "updates": 0, "checkpoint": "/x", "loss": 1.23456789}]}
            (tmp_path / "analysis" / name / "analysis.json").write_text(json.dumps(content))
        (one,) = gather.analyzed(tmp_path, "fresh", "trained")
        assert one == {"residual": "b2t", "updates": 0, "checkpoint": None, "loss": 1.2346, "seed": 1}


class TestDriver:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--jobs", "0"], "--jobs 0: give a positive whole number"),
            (["--seeds", "one"], "--seeds: one is not a whole number"),
            (["--what"], "unknown option --what; see --help"),
            (["--only"], "--only needs a value"),
        ],
    )
    def test_refusals(self, flags, message):
        command = ["bash", str(ROOT / "claims/run.sh"), *flags]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        assert message in result.stderr

    @pytest.mark.slow
    def test_from_text_to_verdict(self, tmp_path):
        """Two tiny configurations of one claim: their numbers go beside the runs, the project's stay as they are."""
        write_captions(tmp_path / "raw")
        published = {path: path.read_bytes() for path in [*evidence.RESULTS.iterdir(), ROOT / "docs/results.md"]}
        layers = ["--encoder-layers", "2", "--decoder-layers", "2"]
        options = ["--only", "scaled_init", "--seeds", "1", "--out", str(tmp_path / "out")]
        options += ["--from", str(tmp_path / "raw")]

        def drive(*flags):
            command = ["bash", str(ROOT / "claims/run.sh"), *options, "--", *flags]
            return subprocess.run(command, capture_output=True, text=True, timeout=600)

        result = drive("--max-update", "4", *layers)
        assert result.returncode == 0, result.stdout + result.stderr
        found = json.loads((tmp_path / "out/results/runs.json").read_text())
        assert [(one["config"], one["seed"], one["updates"]) for one in found] == [
            ("b2t_18l", 1, 4),
            ("b2t_18l_scaled_init", 1, 4),
        ]
        assert "--max-update 4" in found[0]["command"]
        (test,) = json.loads((tmp_path / "out/results/bootstraps.json").read_text())
        assert (test["config"], test["baseline"], test["seed"]) == ("b2t_18l_scaled_init", "b2t_18l", 1)
        assert re.search(r"Depth-scaled initialization improves .*\*\*not decided here\*\*", result.stdout)
        assert {path: path.read_bytes() for path in published} == published

        # what is finished is not done again, and not mixed with anything else
        checkpoint = tmp_path / "out/b2t_18l/seed1/checkpoint_last.pt"
        before = checkpoint.stat().st_mtime_ns
        assert drive("--max-update", "4", *layers).returncode == 0
        assert checkpoint.stat().st_mtime_ns == before
        other = drive("--max-update", "5", *layers)
        assert other.returncode == 1
        assert "was begun with other settings" in other.stderr


def write_captions(folder):
    """Write Multi30k's files with enough different words for its vocabulary."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnoprstuvw", k=generator.randint(3, 8))) for _ in range(2500)]
    folder.mkdir()
    for split, lines in (("train", 1500), ("val", 20), ("test_2016_flickr", 10)):
        for language in ("en", "de"):
            sentences = [" ".join(generator.choices(words, k=generator.randint(4, 9))) for _ in range(lines)]
            (folder / f"{split}.{language}").write_text("\n".join(sentences) + "\n")

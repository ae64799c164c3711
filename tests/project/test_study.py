"""The study with tuned learning rates: its grid, its verdicts by the written rules, what is said of missing runs."""

import json
import math
import random
import re
import subprocess

import pytest
from helpers import ROOT, model_settings
from logs import START, reported, validated, write_log
from planning import planned, settings
from study_records import BOWL, curve, run, tuned, words

from b2t_fairseq.counting import training_flops
from b2t_fairseq.settings.plan import plan_translation
from claims.evidence import RESULTS
from claims.study import figures, grid, judging, records, registry, statistics, tables, unigrams, word_problem
from claims.study.grid import MODELS
from claims.study.judging import EQUAL, NO_REWARD, NOT_RUN
from claims.verdicts import FAILS, HOLDS, OPEN

CLEAR = {"pre_ln_18": 4.0, "b2t_18": 3.8, "pre_ln_6": 4.3, "b2t_6": 4.2, "post_ln_6": 4.1, "post_ln_18": None}
"""Losses with which every claim of the B2T paper on these models is decided."""


def measured(**losses):
    """Return whole curves and three seeds of models, with nearly the same losses whatever the seed."""
    models = CLEAR | losses
    jitter = random.Random(0)
    return [
        one
        for model, best in models.items()
        for one in tuned(model, None if best is None else [best + jitter.uniform(0, 1e-3) for _ in range(3)])
    ]


class TestWordProblem:
    def test_the_product_of_two_words_is_that_of_their_products(self):
        generator = random.Random(1)
        for word in word_problem.words([0, 1, 5, 17, 32], generator):
            for cut in range(len(word) + 1):
                first, second = word_problem.product(word[:cut]), word_problem.product(word[cut:])
                assert word_problem.product(word) == tuple(first[place] for place in second)

    def test_the_generators_reach_every_order(self):
        """Swapping twice and moving five times change nothing, and the two together give all 120 permutations."""
        assert word_problem.product("ss") == word_problem.product("rrrrr") == (0, 1, 2, 3, 4)
        assert word_problem.product("s") == (1, 0, 2, 3, 4)
        assert word_problem.product("r") == (1, 2, 3, 4, 0)
        reached = {word_problem.product(word) for word in word_problem.words([40] * 3000, random.Random(0))}
        assert len(reached) == 120

    def test_a_seed_gives_its_words_and_each_length(self, tmp_path, monkeypatch):
        def written(name, *flags):
            monkeypatch.setattr("sys.argv", ["word_problem", "--output", str(tmp_path / name), *flags])
            word_problem.main()
            return [(tmp_path / f"{name}.{kind}").read_text().splitlines() for kind in ("word", "product")]

        source, target = written("a", "--each", "3", "--seed", "1")
        assert sorted(len(line.split()) for line in source) == sorted(3 * [*range(1, 33)])
        assert all(sorted(line.split()) == ["1", "2", "3", "4", "5"] for line in target)
        assert written("b", "--each", "3", "--seed", "1") == [source, target]
        assert written("c", "--each", "3", "--seed", "2") != [source, target]
        assert len(written("d", "--examples", "50", "--seed", "1")[0]) == 50


class TestStatistics:
    @pytest.mark.parametrize(
        ("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216)]
    )
    def test_students_t(self, freedom, quantile):
        """The two-sided quantiles of 95% are those of the printed tables."""
        assert statistics.inside_t(quantile, freedom) == pytest.approx(0.95, abs=1e-5)
        assert statistics.inside_t(0, freedom) == 0

    def test_paired_differences(self):
        """A worked example: mean 0.12, standard deviation 0.02, t = 10.4 with two degrees of freedom."""
        mean, low, high, p_value = statistics.paired([0.10, 0.12, 0.14])
        half = 4.30265 * 0.02 / math.sqrt(3)
        assert (mean, low, high) == (pytest.approx(0.12), pytest.approx(0.12 - half), pytest.approx(0.12 + half))
        assert p_value == pytest.approx(0.00913, abs=1e-4)
        assert statistics.paired([1.0, 1.0]).p_value == pytest.approx(0, abs=1e-12)
        assert statistics.paired([0.0, 0.0]).p_value == 1
        with pytest.raises(ValueError, match=r"1 difference\(s\) have no interval"):
            statistics.paired([1.0])

    def test_holm(self):
        """The smallest p counts as often as there are tests, and none becomes smaller than a smaller one before it."""
        assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]

    @pytest.mark.parametrize(
        ("count", "total", "low", "high"),
        [(0, 5, 0, 0.5218), (5, 5, 0.4782, 1), (3, 5, 0.1466, 0.9473), (1, 20, 0.0013, 0.2487)],
    )
    def test_clopper_pearson(self, count, total, low, high):
        """Published intervals of 95%."""
        assert statistics.clopper_pearson(count, total) == pytest.approx((low, high), abs=1e-4)

    def test_the_loss_of_word_frequencies(self):
        """Of five tokens two are "a", two are ends of lines, one is "b"; an unknown one counts as seen once."""
        assert unigrams.loss(["a a b", ""], ["a b"]) == pytest.approx((2 * math.log2(5 / 2) + math.log2(5)) / 3)
        assert unigrams.loss(["a"], ["c"]) == pytest.approx(1)


class TestGrid:
    def test_runs_have_names_of_their_own(self):
        done = measured()
        cells = [cell for part in grid.PARTS for cell in dict.fromkeys(grid.cells(part, done))]
        by_name = {cell.name: cell for cell in cells}
        assert all((by_name[cell.name].model, by_name[cell.name].flags) == (cell.model, cell.flags) for cell in cells)

    def test_the_middle_of_the_main_curves_comes_first(self):
        first = [(cell.model.name, cell.rate) for cell in grid.cells("rates", [])][:12]
        assert {rate for _, rate in first} == {"2e-3", "1e-3"}
        assert {name for name, _ in first} == set(CLEAR)
        assert [name for name, _ in first][:2] == ["pre_ln_18", "b2t_18"]

    @pytest.mark.parametrize(("at", "more"), [("8e-3", "0.016"), ("5e-4", "0.00025"), ("2e-3", None)])
    def test_a_curve_whose_best_rate_is_at_its_edge_gets_one_more(self, at, more):
        done = curve("b2t_18", shape=BOWL | {at: -0.1})
        rates = [cell.rate for cell in grid.cells("rates", done) if cell.model.name == "b2t_18"]
        assert sorted(rates) == sorted([*grid.RATES, *([more] if more else [])])
        # only when the curve is complete
        assert len([cell for cell in grid.cells("rates", done[1:]) if cell.model.name == "b2t_18"]) == len(grid.RATES)

    def test_other_seeds_wait_for_the_best_rate(self):
        assert not list(grid.cells("seeds", curve("b2t_18")[1:]))
        assert not list(grid.cells("seeds", curve("b2t_18", shape=BOWL | {"8e-3": -0.1})))
        assert not list(grid.cells("seeds", curve("post_ln_18", None)))
        cells = list(grid.cells("seeds", curve("b2t_18")))
        assert [(cell.model.name, cell.rate, cell.seed) for cell in cells] == [
            ("b2t_18", "2e-3", 2),
            ("b2t_18", "2e-3", 3),
        ]

    def test_a_slower_warmup_decides_nothing(self):
        """Models that differ in it are models of their own, which no rule and no other table reads."""
        done = measured()
        cells = list(grid.cells("warmup", done))
        assert {(cell.model.scheme, cell.rate) for cell in cells} == {
            (scheme, rate) for scheme in grid.THREE for rate in ("1e-3", "2e-3", "4e-3", "8e-3")
        }
        slow = [run(cell.model.name, cell.rate, 1, 1.0) for cell in cells]
        assert registry.judge([*done, *slow]) == registry.judge(done)
        assert tables.tuned_table([*done, *slow]) == tables.tuned_table(done)
        rows = tables.warmup_table([*done, *slow]).splitlines()
        assert rows[2].startswith("| Pre-LN, 18-18 |")
        assert rows[3].startswith("| Pre-LN, 18-18, warm-up 1,000 |")
        assert rows[3].count(" 1.000 ") == 4
        assert tables.warmup_table(done) == tables.NOTHING

    def test_shared_layers_are_compared_at_equal_updates_and_flops(self):
        done = curve("b2t_6")
        cells = [cell for cell in grid.cells("sharing", done) if cell.model.name == "b2t_6"]
        assert {(cell.updates, cell.seed) for cell in cells} == {(2000, 2), (2000, 3)} | {
            (3700, seed) for seed in (1, 2, 3)
        }

    @pytest.mark.parametrize("task", ["mix", "words"])
    def test_the_flags_are_those_of_a_training(self, task, tmp_path):
        """fairseq's parser reads them, with shared layers and without, and they are what the cell says."""
        cells = [cell for part in grid.PARTS for cell in grid.cells(part, []) if cell.task == task]
        kinds = {(bool(cell.model.sets), cell.part): cell for cell in cells if cell.model.scheme in grid.THREE}
        for cell in kinds.values():
            config = f"claims/study/{task}.sh"
            _, flags = planned(config, "--max-update", "10", *cell.flags, gpus=1, folder=tmp_path)
            read = settings(flags)
            model, schedule = read.model, read.lr_scheduler
            assert (model.residual, model.encoder_layers) == (cell.model.scheme, cell.model.layers)
            assert (model.decoder_unique_layers or 0, read.common.seed) == (cell.model.sets, cell.seed)
            assert (list(schedule.lr), schedule.total_num_update) == ([float(cell.rate)], cell.updates)
            assert schedule.warmup_updates == cell.updates / (2 if cell.part == "warmup" else 10)

    def test_equal_flops_are_equal(self):
        """A model of half as many layers takes as many FLOPs in its longer training, for sentences of usual length."""

        def flops(layers):
            size = {"encoder_embed_dim": 64, "encoder_ffn_embed_dim": 256, "share_all_embeddings": True}
            model = model_settings(encoder_layers=layers, decoder_layers=layers, **size)
            return training_flops(plan_translation(model), 2008, 1, 32, 32)

        assert grid.SAME_FLOPS * flops(6) == pytest.approx(grid.UPDATES * flops(12), rel=0.02)

    def test_an_unknown_part_is_refused(self):
        with pytest.raises(ValueError, match="--only rate: there is no such part; give some of rates, "):
            grid.select_parts("rates,rate")

    def test_the_time_left_follows_from_the_runs_that_are_done(self):
        parts = list(grid.PARTS)
        assert "the time left is known when a run is done" in grid.status([], parts)
        # 36,000 layer updates in 5 minutes
        left = sum(grid.planned_costs().values()) - 36_000
        assert f"about {left / 36_000 * 5 / 60:.1f} hours" in grid.status([run("b2t_18")], parts)


class TestRecords:
    def write(self, folder, *losses, unigram_loss=9.0, after=()):
        cell = {"task": "mix", "model": "b2t_18", "rate": "2e-3", "seed": 1, "updates": 200}
        reports = [
            text for update, loss in losses for text in (reported(update, loss, clip=20), validated(update, loss))
        ]
        write_log(folder / "train.log", START, *reports, *after)
        (folder / "cell.json").write_text(json.dumps({**cell, "unigram_loss": unigram_loss, "settings": "x"}))
        (folder / "provenance.json").write_text(json.dumps({"commit": "abc"}))
        return folder

    def test_a_record_has_the_last_loss_and_the_commit(self, tmp_path):
        one = records.record(self.write(tmp_path / "name", (100, 6), (200, 5)))
        assert (one["run"], one["loss"], one["failure"], one["done"]) == ("name", 5, None, 200)
        assert (one["curve"], one["clipped"], one["commit"], one["rate"]) == ([[100, 6], [200, 5]], 0.2, "abc", "2e-3")

    @pytest.mark.parametrize(
        ("loss", "limit", "after", "why"),
        [
            (8.95, 9.0, (), "after 200 updates no better than the frequencies of words"),
            (8.85, 9.0, (), None),
            (8.95, None, (), None),
            (math.inf, 9.0, (), "diverged at update 200"),
            (5, 9.0, ["b2t | FloatingPointError: gradients are Nan/Inf"], "fairseq gave up"),
        ],
    )
    def test_what_has_failed(self, tmp_path, loss, limit, after, why):
        """It diverged, or is less than 0.1 bits below a model that knows only the frequencies of words."""
        one = records.record(self.write(tmp_path / "a", (200, loss), unigram_loss=limit, after=after))
        assert why in one["failure"] if why else one["failure"] is None
        assert math.isinf(records.loss(one)) == bool(why)

    def test_gathering(self, tmp_path):
        """Newer records replace those of the same run; those of a task whose settings have changed are left out."""
        for name, loss in (("a", 5.0), ("b", 4.0)):
            (tmp_path / "out/runs" / name).mkdir(parents=True)
            one = {**run("b2t_18", loss=loss), "run": name}
            (tmp_path / "out/runs" / name / "record.json").write_text(json.dumps(one))
        old = [
            {**run("b2t_18", loss=9.0), "run": "a"},
            {**run("b2t_6"), "run": "c"},
            {**run("b2t_6"), "run": "d", "settings": "y"},
        ]
        old.append({**words("b2t_6", (0.5, 0.5))[0], "run": "e", "settings": "z"})
        (tmp_path / "results").mkdir()
        (tmp_path / "results/study.json").write_text(json.dumps(old))
        assert records.gather(tmp_path / "out", tmp_path / "results") == 4
        assert {one["run"]: one["loss"] for one in records.read(tmp_path / "results")} == {
            "a": 5,
            "b": 4,
            "c": 5,
            "e": 5,
        }

    def test_exact_matches_are_counted_by_length(self, tmp_path):
        lines = ["S-1\ts r", "T-1\t1 2", "H-1\t-0.1\t1 2", "D-1\t-0.1\t1 2", "S-0\tr", "T-0\t2 1", "H-0\t-1\t2 2"]
        lines += ["S-2\ts s", "T-2\t3 4", "H-2\t-0.1\t3 5"]
        (tmp_path / "generated.txt").write_text("\n".join(lines) + "\n")
        assert records.exact_matches(tmp_path) == {"exact": {"1": 0.0, "2": 0.5}}


class TestVerdicts:
    def judge(self, name, done):
        return registry.judge(done)[name]

    @pytest.mark.parametrize("name", [claim.name for claim in registry.CLAIMS])
    def test_without_runs_nothing_is_decided(self, name):
        assert self.judge(name, []).verdict == NOT_RUN

    def test_clear_differences_decide_claims(self):
        verdicts = {name: judgement.verdict for name, judgement in registry.judge(measured()).items()}
        decided = {name: verdict for name, verdict in verdicts.items() if verdict != NOT_RUN}
        assert decided == {"divergence": HOLDS, "loss_18l": HOLDS, "loss_6l": HOLDS, "deeper": HOLDS}
        assert self.judge("loss_18l", measured()).number.startswith("-0.2")

    @pytest.mark.parametrize(
        ("b2t", "expected"), [(3.8, HOLDS), (4.2, FAILS), (4.0, EQUAL), (4.02, EQUAL), (3.965, HOLDS), (4.035, FAILS)]
    )
    def test_a_difference_must_be_at_least_0_03_bits(self, b2t, expected):
        assert self.judge("loss_18l", measured(b2t_18=b2t)).verdict == expected

    def test_seeds_that_scatter_decide_nothing(self):
        done = [one for one in measured() if one["model"] != "b2t_18"] + tuned("b2t_18", (3.8, 3.9, 4.1))
        assert self.judge("loss_18l", done).verdict == OPEN

    @pytest.mark.parametrize("missing", ["a seed", "a rate", "a rate beyond the edge"])
    def test_no_verdict_follows_from_a_part_of_the_runs(self, missing):
        done = measured()
        if missing == "a rate beyond the edge":
            done = [one for one in done if one["model"] != "b2t_18"] + curve("b2t_18", 3.8, BOWL | {"8e-3": -0.1})
        else:
            field, value = ("seed", 3) if missing == "a seed" else ("rate", "8e-3")
            done = [one for one in done if one["model"] != "b2t_18" or one[field] != value]
        assert self.judge("loss_18l", done).verdict == NOT_RUN

    def test_a_model_fails_to_train_only_if_it_fails_at_every_rate(self):
        assert self.judge("divergence", measured()).number == "5 of 5 (48% to 100%) runs failed"
        assert self.judge("divergence", [one for one in measured() if one["rate"] != "5e-4"]).verdict == NOT_RUN
        done = [one for one in measured() if (one["model"], one["rate"]) != ("post_ln_18", "5e-4")]
        assert self.judge("divergence", [*done, run("post_ln_18", "5e-4", loss=6.0)]).verdict == FAILS

    def test_a_model_that_trains_is_better_than_one_that_does_not(self):
        assert self.judge("loss_18l", measured(pre_ln_18=None)).verdict == HOLDS
        assert self.judge("loss_18l", measured(b2t_18=None)).verdict == FAILS
        assert self.judge("loss_18l", measured(b2t_18=None, pre_ln_18=None)).verdict == OPEN

    def test_where_depth_never_pays_nothing_is_said_against_it(self):
        done = measured(pre_ln_18=4.5, b2t_18=4.4)
        assert self.judge("deeper", done).verdict == NO_REWARD
        # one scheme that gains is enough for verdicts
        assert self.judge("deeper", measured(pre_ln_18=4.5)).verdict == FAILS
        # before all schemes are run it is not known
        assert self.judge("deeper", [one for one in done if one["model"] != "post_ln_18"]).verdict == NOT_RUN

    @pytest.mark.parametrize(
        ("deep", "b2t", "depth", "by_b2t"),
        [
            ((0.6, 0.6), (0.9, 0.8), HOLDS, HOLDS),
            ((0.6, 0.6), (0.5, 0.5), HOLDS, FAILS),
            ((0.6, 0.6), (0.9, 0.5), HOLDS, OPEN),
            ((0.21, 0.6), (0.9, 0.8), NO_REWARD, NO_REWARD),
        ],
    )
    def test_the_word_problem_counts_only_if_depth_pays_in_it(self, deep, b2t, depth, by_b2t):
        done = words("pre_ln_6", (0.2, 0.2)) + words("pre_ln_18", deep) + words("b2t_18", b2t)
        assert (self.judge("words_depth", done).verdict, self.judge("words_b2t", done).verdict) == (depth, by_b2t)
        assert self.judge("words_depth", done[1:]).verdict == NOT_RUN

    def test_each_comparison_is_corrected_for_all_of_its_paper(self):
        """What is not run counts, too, so that a verdict stays when it is run."""
        pairs = [pair for claim in registry.CLAIMS if claim.source == registry.B2T_PAPER for pair in claim.comparisons]
        pair = judging.Comparison(MODELS["b2t_18"], MODELS["pre_ln_18"])
        assert pair in pairs
        done = tuned("pre_ln_18", (4.0, 4.0, 4.0)) + tuned("b2t_18", (3.90, 3.92, 3.89))
        alone, among = (judging.outcomes(done, compared)[pair] for compared in ([pair], pairs))
        assert (alone.better, among.better) == (True, False)
        assert alone.difference == among.difference


class TestPages:
    def test_gap_window_and_clipping_stand_beside_a_verdict(self):
        done = tuned("b2t_18", (4.0, 4.0, 4.0)) + tuned("pre_ln_18", (4.1, 4.1, 4.1))
        (claim,) = [claim for claim in registry.CLAIMS if claim.name == "loss_18l"]
        expected = "B2T, 18-18: +0.000, 0.001 to 0.004, 25% clipped; Pre-LN, 18-18: +0.100, 0.001 to 0.004, 25% clipped"
        assert tables.beside(done, claim.models) == expected
        assert tables.beside([], claim.models) == "-"

    @pytest.mark.parametrize("done", [[], [run("b2t_18")], [*measured(), *words("pre_ln_6", (0.2, 0.2))]])
    def test_what_is_not_run_is_said(self, done):
        """A model that is begun has a whole row, the others are named below the table."""
        for table in (tables.curves_table, tables.tuned_table, tables.longer_table, tables.words_table):
            rows, _, others = table(done).partition("\n\n")
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows.splitlines()}) == 1
            # the first table has named them
            assert "not run yet" in table(done).lower() or table is tables.tuned_table
            assert others == "" or others.startswith("Not run yet: ")
        assert "not run yet | not run yet" in tables.curves_table([run("b2t_18")])
        begun, _, others = tables.curves_table(done).partition("Not run yet: ")
        for model in tables.MODELS if done else ():
            assert (f"| {model.label} |" in begun) != (model.label in others.rstrip(".").split("; "))

    def test_numbers(self):
        """Loss, gap, window, share of clipped updates and failures stand in one row."""
        table = tables.tuned_table(
            tuned("b2t_18", (4.0, 4.1, 4.2)) + curve("pre_ln_18", 3.9) + curve("post_ln_18", None)
        )
        row = "4.100 (4.000 to 4.200) | 0.100 | 0.001 to 0.004 | 0.146 | 25% | 0 of 7 (0% to 41%) |"
        assert f"| B2T, 18-18 | 0.002 | {row}" in table
        assert "| Post-LN, 18-18 | fails at every rate |  |  |  |  |  | 5 of 5 (48% to 100%) |" in table
        assert "| failed | failed |" in tables.curves_table(curve("post_ln_18", None))
        assert tables.progress([run("b2t_18")]).startswith("1 run is done, about 1% of the study: 0.1 hours")

    def test_figures_are_drawn_when_there_is_something_to_draw(self):
        assert figures.draw([run("b2t_18")]) == {}
        drawn = figures.draw([*measured(), *words("pre_ln_6", (0.2, 0.2))])
        assert set(drawn) == {*figures.FIGURES}
        assert "18-18 layers (\N{MULTIPLICATION SIGN}: failed)" in drawn["rates.svg"].decode()
        assert "Pre-LN, 6-6" in drawn["words.svg"].decode()

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--width", "60"], "--width 60: give a multiple of 8"),
            (["--text", "/nowhere"], "--text /nowhere: no such folder"),
            (["--jobs", "two"], "--jobs two: give a positive whole number"),
            (["--runs", "0"], "--runs 0: give a positive whole number"),
        ],
    )
    def test_wrong_options_are_refused_before_anything_is_done(self, flags, message):
        command = ["bash", str(ROOT / "claims/study/run.sh"), *flags]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        assert message in result.stderr

    @pytest.mark.slow
    def test_from_words_to_a_record(self, tmp_path):
        """One tiny run of the word problem: its numbers go beside it, the project's stay, and it is not done again."""
        published = {path: path.read_bytes() for path in RESULTS.iterdir()}
        command = ["bash", str(ROOT / "claims/study/run.sh"), "--only", "depth", "--runs", "1", "--jobs", "1"]
        command += ["--out", str(tmp_path), "--", "--max-update", "4", "--encoder-layers", "1", "--decoder-layers", "1"]
        for expected in (1, 2):
            result = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert result.returncode == 0, result.stdout + result.stderr
            done = records.read(tmp_path / "results")
            assert len(done) == expected
        assert {(one["done"], one["layers"]["encoder"], len(one["exact"])) for one in done} == {(4, 1, 32)}
        assert "hours of training are left" in result.stdout
        assert {path: path.read_bytes() for path in published} == published

    def test_what_is_published_was_run_at_a_commit(self):
        """Each record is of the present grid's models and names its commit, without local changes."""
        for one in records.read():
            assert one["model"] in MODELS
            assert re.fullmatch(r"[0-9a-f]{7,}(, [0-9a-f]{7,})*|\d.*-g[0-9a-f]+", one["commit"]), one["run"]
        assert (ROOT / "claims/study/README.md").is_file()

"""The driver's numbers become records, tables and figures; what is published is of the present settings."""

import json
import random
import re
import subprocess
import sys

import pytest
from claim_evidence import CLAIMS, REACHING_BOTTOM, bootstraps, model, runs
from helpers import ROOT

from claims import evidence, figures, gather, provenance, registry, tables
from claims.configurations import LABELS
from claims.evidence import Evidence
from claims.study.grid import PARTS


class TestTables:
    @pytest.fixture
    def measured(self):
        losses = {config: [5.0 + index, 5.1 + index, 5.2 + index] for index, config in enumerate(LABELS)}
        pairs = {pair for claim in registry.CLAIMS for pair in claim.pairs}
        gradients = [
            model(scheme, seed, reaching, updates=updates)
            for scheme, reaching in REACHING_BOTTOM.items()
            for seed in (1, 2, 3)
            for updates in (0, 2000)
        ]
        tests = [one for pair in pairs for one in bootstraps(*pair, [1.0, 1.0, 1.0])]
        return Evidence(runs(losses), tests, gradients, [], None)

    def test_all_rows_have_as_many_cells(self, measured):
        # one that has nothing finite is a row too
        measured.runs[0]["valid_loss"] = None
        measured.gradients[0]["stacks"]["encoder"]["layers"][0]["positions"][0]["gradient"] = None
        of_evidence = (tables.one_rate_table, tables.runs_table, tables.comparisons_table, tables.gradients_table)
        built = [tables.verdicts_table(measured, []), tables.details_table(measured, [])]
        for table in [tables.rules_table(), *built, *(build(measured) for build in of_evidence)]:
            lines = table.splitlines()
            assert len(lines) > 2
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1

    def test_numbers(self, measured):
        """A row has mean and range over the seeds, and the conditions say how long runs took."""
        assert "| 1,000 | 1, 2, 3 | 5.100 (5.000 to 5.200) | 20.00 (20.00 to 20.00) | 0 of 3 |" in tables.runs_table(
            measured
        )
        assert tables.conditions(measured).startswith(f"{3 * len(LABELS)} runs, each with 5 to 5 minutes")

    def test_figures(self, measured):
        """Each figure is drawn, with its configurations' names in it."""
        files = figures.draw(measured)
        assert set(files) == {"losses.svg", "gradients.svg", "shared.svg"}
        assert all(content.lstrip().startswith(b"<?xml") for content in files.values())
        for text in ("Post-LN", "B2T", "18-18 layers", "6-6 layers"):
            assert text in files["losses.svg"].decode()

    def test_a_figure_of_all_schemes_shows_each_once(self, monkeypatch):
        monkeypatch.setattr(figures.analysis, "draw", lambda models: {"analysis": {"svg": models}})
        models = [model(residual, seed, 0.3) for residual in ("b2t", "pre_ln") for seed in (2, 1)]
        assert figures.draw(Evidence([], [], [], models, None)) == {"schemes.svg": [models[1], models[3]]}

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
            assert name in {*CLAIMS, *PARTS}


class TestGathering:
    def test_merging(self, tmp_path):
        """A newer record replaces the one of its configuration and seed; records are sorted."""
        path = tmp_path / "runs.json"
        gather.merge(path, [{"config": "b", "seed": 1, "x": 1}, {"config": "a", "seed": 2, "x": 2}], ("config", "seed"))
        gather.merge(path, [{"config": "a", "seed": 2, "x": 3}, {"config": "a", "seed": 1, "x": 4}], ("config", "seed"))
        merged = json.loads(path.read_text())
        assert [(one["config"], one["seed"], one["x"]) for one in merged] == [("a", 1, 4), ("a", 2, 3), ("b", 1, 1)]
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
        """A worse translation has a significant difference, the same one has none and no p-value."""
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
            "config": "same",
            "baseline": "good",
            "seed": 1,
            "settings": [digest] * 2,
            "difference": 0.0,
            "p_value": None,
        }

    def test_analyses(self, tmp_path):
        """Analyses of new models are found by their names; folders of this machine are left out."""
        for name in ("fresh-seed1", "all-seed2"):
            (tmp_path / "analysis" / name).mkdir(parents=True)
            content = {"models": [{"residual": "b2t", "updates": 0, "checkpoint": "/x", "loss": 1.23456789}]}
            (tmp_path / "analysis" / name / "analysis.json").write_text(json.dumps(content))
        (one,) = gather.read_analyses(tmp_path, "fresh", "trained")
        assert one == {"residual": "b2t", "updates": 0, "checkpoint": None, "loss": 1.2346, "seed": 1}


class TestProvenance:
    def test_what_differs_from_an_earlier_start_is_added(self, tmp_path, monkeypatch):
        starts = [{"commit": "a", "date": "2026-01-01"}, {"commit": "b", "date": "2026-01-01"}]
        path = tmp_path / "provenance.json"
        for now in [*starts, starts[0]]:
            monkeypatch.setattr(provenance, "current", lambda now=now: now)
            monkeypatch.setattr(sys, "argv", ["provenance", str(path), "bash scripts/train.sh"])
            provenance.main()
        expected = {"commit": "a, b", "date": "2026-01-01", "command": "bash scripts/train.sh"}
        assert json.loads(path.read_text()) == expected

    def test_a_run_has_all_that_its_table_shows(self):
        assert set(provenance.current()) == {"commit", "date", "hardware", "torch", "python"}
        assert all(provenance.current().values())


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
        """Wrong options of the driver are refused before anything is done."""
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
        recorded = json.loads((tmp_path / "out/results/runs.json").read_text())
        assert [(one["config"], one["seed"], one["updates"]) for one in recorded] == [
            ("b2t_18l", 1, 4),
            ("b2t_18l_scaled_init", 1, 4),
        ]
        assert "--max-update 4" in recorded[0]["command"]
        (test,) = json.loads((tmp_path / "out/results/bootstraps.json").read_text())
        assert (test["config"], test["baseline"], test["seed"]) == ("b2t_18l_scaled_init", "b2t_18l", 1)
        assert re.search(r"Depth-scaled initialization improves .*\| not decided \|", result.stdout)
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

"""``b2t score`` and ``b2t table`` on test sets that came with a run's data, such as IWSLT14's."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.scoring.bleu import BleuConfig, Scorer
from sacrebleu.metrics import BLEU
from scoring import SEGMENTS, make_own_run, make_run, scores

from b2t_cli import main as b2t
from b2t_cli.reporting.summary import score_tables
from b2t_cli.scoring.moses import PerlTokenizer


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def metrics(folder):
    return scores(folder)["sets"]["iwslt14"]["metrics"]


def read_lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def fairseq_bleu(hypotheses, references):
    """Return BLEU as fairseq counts it, with which the papers' numbers on IWSLT14 were made."""
    dictionary = Dictionary()
    scorer = Scorer(BleuConfig(pad=dictionary.pad(), eos=dictionary.eos(), unk=dictionary.unk()))
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        sides = [dictionary.encode_line(line, add_if_not_exist=True).int() for line in (reference, hypothesis)]
        scorer.add(*map(torch.Tensor.contiguous, sides))
    return scorer.score()


class TestScores:
    def test_tokenized_bleu_is_that_of_fairseq_on_the_tokens(self, tmp_path, capsys):
        folder = make_own_run(tmp_path / "run", 1)
        assert b2t(["score", "run"]) == 0
        lines = read_lines(folder / "evaluation/iwslt14.generated.txt")
        tokens = [line.split("\t")[2] for line in lines if line.startswith("H-")]
        references = read_lines(folder / "evaluation/references/iwslt14.tokens.en")
        scored = metrics(folder)
        assert scored["tokenized BLEU"]["score"] == pytest.approx(fairseq_bleu(tokens, references), abs=1e-3)
        assert 20 < scored["tokenized BLEU"]["score"] < 90
        assert re.search(r"case:lc.*tok:none\|smooth:none", scored["tokenized BLEU"]["signature"])
        assert f"{scored['tokenized BLEU']['score']:.2f}" in capsys.readouterr().out

    def test_the_case_of_references_does_not_count_for_lower_cased_text(self, tmp_path):
        folder = make_own_run(tmp_path / "run", 1)
        assert b2t(["score", "run"]) == 0
        hypotheses = read_lines(folder / "evaluation/iwslt14.en")
        references = read_lines(folder / "evaluation/references/iwslt14.en")
        metric = BLEU(trg_lang="en")
        expected = metric.corpus_score(hypotheses, [[line.lower() for line in references]]).score
        assert metrics(folder)["BLEU"]["score"] == pytest.approx(expected)
        assert metric.corpus_score(hypotheses, [references]).score < expected - 1
        assert "case:lc" in metrics(folder)["BLEU"]["signature"]

    def test_text_with_upper_case_is_tokenized_for_tokenized_bleu(self, tmp_path):
        folder = make_own_run(tmp_path / "run", 1, lower=False)
        assert b2t(["score", "run"]) == 0
        tokens = [PerlTokenizer("en")(line).lower() for line in read_lines(folder / "evaluation/iwslt14.en")]
        references = read_lines(folder / "evaluation/references/iwslt14.tokens.en")
        scored = metrics(folder)
        assert scored["tokenized BLEU"]["score"] == pytest.approx(fairseq_bleu(tokens, references), abs=1e-3)
        assert "case:mixed" in scored["BLEU"]["signature"]

    def test_a_perfect_translation_has_100_in_each_column(self, tmp_path, capsys):
        for name, lower in (("a", True), ("b", False)):
            folder = make_own_run(tmp_path / name, 1, lower=lower, drop=0)
            assert b2t(["score", name]) == 0
            assert {metric: round(scored["score"], 6) for metric, scored in metrics(folder).items()} == {
                "BLEU": 100,
                "chrF2": 100,
                "tokenized BLEU": 100,
            }

    def test_published_results_stand_in_the_column_of_tokenized_bleu(self, tmp_path, capsys):
        folder = make_own_run(tmp_path / "run", 1)
        assert b2t(["score", "run"]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"system .* parameters +tokenized BLEU +BLEU +chrF2\n", shown)
        assert re.search(r"ResiDual, 6L-6L \* .* 35\.63 +- +-\n", shown)
        difference = metrics(folder)["tokenized BLEU"]["score"] - 35.63
        assert f"35.63 there, {difference + 35.63:.2f} here, difference {difference:+.2f}" in shown
        assert scores(folder)["published"][0]["difference"] == pytest.approx(difference)
        assert "27.30" not in shown
        latex = (folder / "evaluation/scores.tex").read_text()
        assert len({line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")}) == 1

    def test_runs_are_compared_on_their_own_sets(self, tmp_path, capsys):
        for seed, name in enumerate(("a", "b")):
            make_own_run(tmp_path / name, seed, drop=0.1 + 0.3 * seed)
        assert b2t(["score", "a", "b", "--bootstrap-samples", "20", "--by-length", "5"]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"iwslt14 +BLEU +\S*a ", shown)
        assert "case:lc" in shown
        tests = scores(tmp_path / "a", "comparison")["bootstrap"]["sets"]["iwslt14"]
        assert tests["BLEU"]["runs"][1]["difference"] < 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["lower", "upper"], "lower and upper are not scored on the same test sets in the same case"),
            (["lower", "newstest"], "lower and newstest are not scored on the same test sets"),
            (["lower", "--language-pair", "en-de"], "--language-pair en-de: lower translates de-en"),
            (["damaged"], "about.json is missing or damaged"),
            (["short"], f"has {SEGMENTS} sources, {SEGMENTS - 1} references and {SEGMENTS} tokenized references"),
            (["none"], "has none of iwslt14.generated.txt; make them with"),
            (["text"], "iwslt14.generated.txt has no line H-0 with tokens"),
        ],
    )
    def test_what_cannot_be_scored_is_named(self, tmp_path, sacrebleu_cache, capsys, flags, message):
        for name in {"lower", "upper", "damaged", "short", "none", "text"} & set(flags):
            folder = make_own_run(tmp_path / name, 1, lower=name != "upper")
        if "newstest" in flags:
            make_run(tmp_path / "newstest", 1, ["newstest2010"])
        if flags == ["damaged"]:
            (folder / "evaluation/references/about.json").write_text("{")
        if flags == ["short"]:
            path = folder / "evaluation/references/iwslt14.en"
            path.write_text("".join(f"{line}\n" for line in read_lines(path)[1:]))
        if flags == ["text"]:
            path = folder / "evaluation/iwslt14.generated.txt"
            path.write_text("".join(f"{line}\n" for line in read_lines(path) if not line.startswith("H-")))
        if flags == ["none"]:
            (folder / "evaluation/iwslt14.generated.txt").unlink()
        assert b2t(["score", *flags]) == 1
        assert message in capsys.readouterr().err

    def test_comet_of_lower_cased_text_is_refused(self, tmp_path, monkeypatch, capsys):
        make_own_run(tmp_path / "run", 1)
        monkeypatch.setattr("b2t_cli.scoring.comet.require", lambda: None)
        assert b2t(["score", "run", "--comet"]) == 1
        assert "--comet: the translations of run are in lower case" in capsys.readouterr().err


class TestTable:
    def log(self, folder):
        reports = "loss=8.1, wps=1000, ups=2, num_updates=50", "loss=7.1, wps=1000, ups=2, num_updates=100"
        head = "2026-01-01 00:00:00 | INFO | train_inner | epoch 001: 50 / 646 "
        (folder / "train.log").write_text("".join(f"{head}{report}\n" for report in reports))

    def test_both_kinds_of_bleu_have_columns_of_their_own(self, tmp_path, capsys):
        for seed in (1, 2):
            self.log(make_own_run(tmp_path / f"sweep/resi_dual/seed{seed}", seed))
            assert b2t(["score", f"sweep/resi_dual/seed{seed}"]) == 0
        self.log(make_own_run(tmp_path / "sweep/b2t/seed1", 3, residual="b2t"))
        capsys.readouterr()
        runs = [f"sweep/{name}" for name in ("resi_dual/seed1", "resi_dual/seed2", "b2t/seed1")]
        assert b2t(["table", *runs, "--output", "table"]) == 1
        shown = capsys.readouterr().out
        assert "BLEU on iwslt14: mean" in shown
        assert re.search(r"speed +iwslt14 tokenized BLEU +iwslt14 BLEU\n", shown)
        assert re.search(r"resi_dual +2 .* \d+\.\d\d ± \d+\.\d\d +\d+\.\d\d ± \d+\.\d\d\n", shown)
        assert re.search(r"b2t +0 of 1 .* failed +failed\n", shown)
        row = json.loads((tmp_path / "table.json").read_text())["configurations"][0]
        values = [metrics(tmp_path / run)["tokenized BLEU"]["score"] for run in runs[:2]]
        assert row["tokenized_bleu"]["iwslt14"]["values"] == values
        assert row["bleu"]["iwslt14"]["values"] != values

    def test_a_table_of_two_kinds_of_test_sets_is_refused(self, tmp_path, sacrebleu_cache, capsys):
        self.log(make_own_run(tmp_path / "a/seed1", 1))
        self.log(make_run(tmp_path / "b/seed1", 1, ["newstest2010"]))
        assert b2t(["score", "a/seed1"]) == b2t(["score", "b/seed1"]) == 0
        capsys.readouterr()
        assert b2t(["table", "a/seed1", "b/seed1"]) == 1
        assert "b/seed1 and a/seed1 are scored on different test sets" in capsys.readouterr().err

    def test_a_report_shows_the_scores_of_each_kind_of_sets(self, tmp_path, sacrebleu_cache):
        make_own_run(tmp_path / "own", 1)
        make_run(tmp_path / "newstest", 1, ["newstest2010"])
        assert b2t(["score", "own"]) == b2t(["score", "newstest"]) == 0
        runs = [SimpleNamespace(name=name, scores=scores(tmp_path / name)) for name in ("own", "newstest")]
        own, newstest = (table.text() for table in score_tables(runs))
        assert re.search(r"ResiDual, 6L-6L \* .* 35\.63", own)
        assert "ResiDual, 12L-12L" not in own
        assert "newstest2010 to newstest2016, en-de" in newstest

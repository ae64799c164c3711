"""``b2t score`` on runs and on files gives the numbers of sacreBLEU's own command."""

import json
import re
import shlex

import numpy as np
import pytest
from commands import run
from sacrebleu.metrics import BLEU, CHRF
from scoring import DEEP, SEGMENTS, make_run, scores

from b2t_cli import main as b2t
from b2t_cli.scoring.newstest import NEWSTESTS, references, sources
from b2t_cli.tables import RULE, Table
from b2t_common.scripts import script_command


def test_scores_of_a_run_are_those_of_sacrebleus_command(sacrebleu_cache, tmp_path, capsys):
    folder = make_run(tmp_path / "run", 1)
    assert b2t(["score", "run"]) == 0
    hypotheses = (folder / "evaluation/newstest2014.de").read_text(encoding="utf-8").split("\n")
    assert len(hypotheses) == SEGMENTS + 1
    for hypothesis, reference in zip(hypotheses, references("newstest2014"), strict=False):
        assert set(hypothesis.split()) <= set(reference.split())
    assert any("\u2028" in line or "\u0085" in line for line in hypotheses)
    flags = shlex.split("-t wmt14/full -l en-de -m bleu chrf -w 9")
    hypotheses = str(folder / "evaluation/newstest2014.de")
    result = run("sacrebleu", *flags, "-i", hypotheses, SACREBLEU=str(sacrebleu_cache))
    metrics = scores(folder)["sets"]["newstest2014"]["metrics"]
    for theirs in json.loads(result.stdout):
        assert metrics[theirs["name"]]["score"] == pytest.approx(theirs["score"], abs=1e-8)
        assert metrics[theirs["name"]]["signature"] == theirs["signature"]
    assert len(metrics) == 2
    assert f"{metrics['BLEU']['score']:.2f}" in capsys.readouterr().out


def test_a_missing_translation_is_refused_with_the_sets_name(sacrebleu_cache, tmp_path, capsys):
    folder = make_run(tmp_path / "run", 1)
    file = folder / "evaluation/newstest2013.generated.txt"
    lines = [line for line in file.read_text(encoding="utf-8").split("\n") if not line.startswith("D-7\t")]
    file.write_text("\n".join(lines) + "D-7", encoding="utf-8")
    assert b2t(["score", "run"]) == 1
    message = capsys.readouterr().err
    assert "newstest2013.generated.txt has 11 translations for 12 references; missing sentences: 7" in message
    assert not (folder / "evaluation/scores.json").exists()


def test_the_average_needs_all_seven_sets(sacrebleu_cache, tmp_path, capsys):
    names = [name for name in NEWSTESTS if name not in ("newstest2011", "newstest2016")]
    folder = make_run(tmp_path / "my/run", 1, names, **DEEP)
    assert b2t(["score", "my/run"]) == 0
    shown = capsys.readouterr().out
    assert "no average: newstest2011, newstest2016 missing" in shown
    assert "B2T (paper) *" in shown
    assert "* B2T (paper) has the settings of my/run; dropout" in shown
    written = scores(folder)
    assert written["average"] is None
    assert written["published"][0]["difference"] is None
    assert list(written["sets"]) == names


def test_the_tables_have_the_scores_of_the_json_file(sacrebleu_cache, tmp_path, capsys):
    folder = make_run(tmp_path / "my/run_1", 1, **DEEP)
    assert b2t(["score", "my/run_1"]) == 0
    shown = capsys.readouterr().out
    written = scores(folder)
    markdown, latex = ((folder / f"evaluation/scores.{ending}").read_text() for ending in ("md", "tex"))
    for metric in ("BLEU", "chrF2"):
        values = [written["sets"][name]["metrics"][metric]["score"] for name in NEWSTESTS]
        assert written["average"][metric] == pytest.approx(np.mean(values))
        cells = [f"{value:.2f}" for value in [*values, np.mean(values)]]
        assert " | ".join(cells) in markdown
        assert " & ".join(cells) in latex
        assert "  ".join(cells[:-1]) in shown
    difference = written["average"]["BLEU"] - 27.30
    assert written["published"][0]["difference"] == pytest.approx(difference)
    for text in (shown, markdown, latex):
        assert f"difference {difference:+.2f}" in text
        assert text.count("24.62") == 1
    assert r"B2T (paper) \* |" in markdown
    assert r"my/run\_1 & BLEU" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\toprule") == latex.count(r"\end{tabular}") == 1
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {row.count(" & ") for row in rows} == {13}
    assert len(rows) == 1 + 2 + 13


def test_special_characters_are_escaped_in_latex():
    table = Table("title", ["a_b", "c"], [["50%_{x}~^\\ & #$", "-"], RULE, ["[a]", "-0.12"], ["*", "1.00 ± 0.10"]])
    lines = table.latex().splitlines()
    assert r"a\_b & c \\" in lines
    assert r"50\%\_\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{} \& \#\$ & -- \\" in lines
    assert r"{}[a] & $-$0.12 \\" in lines
    assert r"{}* & 1.00 $\pm$ 0.10 \\" in lines
    assert lines.count(r"\midrule") == 2


def test_bootstrap_resampling_is_that_of_sacrebleus_command(sacrebleu_cache, tmp_path, capsys):
    runs = {"x/a/seed1": 0.2, "y/a/seed1": 0.3}
    folders = [make_run(tmp_path / name, seed, drop=drop) for seed, (name, drop) in enumerate(runs.items())]
    assert b2t(["score", *runs, "--bootstrap-samples", "60", "--output", "against"]) == 0
    shown = capsys.readouterr().out
    flags = shlex.split("-t wmt14/full -l en-de -m bleu chrf -w 2 -f text -nc -q -pbs -pbsn 60")
    hypotheses = [str(folder / "evaluation/newstest2014.de") for folder in folders]
    result = run("sacrebleu", *flags, "-i", *hypotheses, SACREBLEU=str(sacrebleu_cache), SACREBLEU_FORMAT="text")
    written = json.loads((tmp_path / "against.json").read_text())
    assert [entry["run"] for entry in written["runs"]] == list(runs)
    assert written["bootstrap"]["sets"].keys() == NEWSTESTS.keys()
    markdown, latex = ((tmp_path / f"against.{ending}").read_text() for ending in ("md", "tex"))
    for metric, test in written["bootstrap"]["sets"]["newstest2014"].items():
        assert re.search(rf"{metric} +{re.escape(test['signature'])}", result.stdout)
        for entry in test["runs"]:
            values = f"{entry['score']:.2f} ({entry['mean']:.2f} ± {entry['ci']:.2f})"
            assert values in result.stdout
            assert f"{entry['score']:.2f} | {entry['mean']:.2f} ± {entry['ci']:.2f}" in markdown
            assert rf"{entry['score']:.2f} & {entry['mean']:.2f} $\pm$ {entry['ci']:.2f}" in latex
        p_value = test["runs"][1]["p_value"]
        assert f"(p = {p_value:.4f})" in result.stdout
        assert f"{p_value:.4f}" in shown
        difference = test["runs"][1]["score"] - test["runs"][0]["score"]
        assert test["runs"][1]["difference"] == pytest.approx(difference)
    assert [scores(folder)["sets"] for folder in folders] == [entry["sets"] for entry in written["runs"]]


def test_identical_translations_have_no_p_value(sacrebleu_cache, tmp_path, capsys):
    for name in ("a", "b"):
        make_run(tmp_path / name, 1, ["newstest2010"])
    assert b2t(["score", "a", "b", "--bootstrap-samples", "30"]) == 0
    assert capsys.readouterr().out.count(" identical\n") == 2
    tests = scores(tmp_path / "a", "comparison")["bootstrap"]["sets"]["newstest2010"]
    assert tests["BLEU"]["runs"][1]["p_value"] is None


def test_empty_translations_score_nothing(sacrebleu_cache, tmp_path):
    make_run(tmp_path / "a", 1, ["newstest2010", "newstest2011"])
    folder = make_run(tmp_path / "b", 2, ["newstest2010"], drop=1)
    assert b2t(["score", "a", "b", "--bootstrap-samples", "30"]) == 0
    metrics = scores(folder)["sets"]["newstest2010"]["metrics"]
    assert metrics["BLEU"]["score"] == metrics["chrF2"]["score"] == 0
    assert list(scores(tmp_path / "a", "comparison")["bootstrap"]["sets"]) == ["newstest2010"]


def test_a_test_set_that_is_not_available_is_an_error(sacrebleu_cache, tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run", 1)
    (sacrebleu_cache / "wmt12/wmt12.en-de.ref").unlink()

    def no_network(self):
        raise OSError("no network here")

    monkeypatch.setattr("sacrebleu.dataset.base.Dataset.maybe_download", no_network)
    assert b2t(["score", "run"]) == 1
    message = capsys.readouterr().err
    assert all(words in message for words in ("newstest2012", "SACREBLEU", "no network here", str(sacrebleu_cache)))
    assert b2t(["score", "run", "--language-pair", "en-xx"]) == 1
    assert "--language-pair en-xx" in capsys.readouterr().err
    (sacrebleu_cache / "wmt10/wmt10.en-de.src").write_text("cut short\n")
    assert b2t(["score", "run"]) == 1
    assert "1 sources and 12 references of newstest2010" in capsys.readouterr().err
    assert len(sources("newstest2011")) == SEGMENTS


def test_contradictory_flags_are_refused(sacrebleu_cache, tmp_path, capsys):
    make_run(tmp_path / "run", 1, ["newstest2010"])
    make_run(tmp_path / "other", 1, ["newstest2010"])
    (tmp_path / "text").write_text("a reference\n")
    (tmp_path / "empty/evaluation").mkdir(parents=True)
    file = "run/evaluation/newstest2010.generated.txt"
    for flags, quoted in [
        ([file], [file, "--reference"]),
        ([file, "other", "--reference", file], ["--reference", "not 2"]),
        ([file, "--reference", file, "--comet"], ["--comet", "--reference"]),
        ([file, "--reference", file, "--bootstrap-samples", "5"], ["--bootstrap-samples"]),
        ([file, "--reference", "text", "--output", file], [f"--output {file}", "would be lost"]),
        ([file, "--reference", "text", "--output", "text"], ["--output text", "would be lost"]),
        (["run", "--output", "x"], ["--output x", "run"]),
        (["run", "--bootstrap-samples", "5"], ["--bootstrap-samples 5"]),
        (["run", "other", "--bootstrap-samples", "0"], ["--bootstrap-samples 0"]),
        (["run", "other", "--output", "nowhere/x"], ["there is no folder nowhere"]),
        (["run", "run/"], ["given twice"]),
        (["--comet", "run", "other"], ["--comet run is a run"]),
        (["empty"], ["empty/evaluation", "newstest2010.generated.txt", script_command("evaluate.sh", "empty")]),
    ]:
        assert b2t(["score", *flags]) == 1
        message = capsys.readouterr().err
        assert all(words in message for words in quoted), message


def test_empty_and_undecodable_references_are_refused(tmp_path, capsys):
    (tmp_path / "generated").write_text("D-0\t-0.1\tein Haus\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "latin1").write_bytes("schön\n".encode("latin-1"))
    for name, message in (("empty", "empty is empty"), ("latin1", "latin1 is not UTF-8"), ("none", "none")):
        assert b2t(["score", str(tmp_path / "generated"), "--reference", str(tmp_path / name)]) == 1
        assert message in capsys.readouterr().err


def write_output(path, *sentences, targets=()):
    """Write an output of fairseq-generate in which each sentence has a number and its hypotheses, best first."""
    lines = []
    for number, *hypotheses in sentences:
        lines += [f"S-{number}\tsource", *(f"T-{number}\t{targets[number]}" for _ in targets[number : number + 1])]
        lines += [f"{kind}-{number}\t-0.5\t{text}" for text in hypotheses for kind in "HD"]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def score_against(path, *references):
    """Return the exit status of ``b2t score`` on a file."""
    reference = path.with_name("reference")
    reference.write_text("".join(f"{line}\n" for line in references))
    return b2t(["score", str(path), "--reference", str(reference), "--output", str(path.with_name("text"))])


def test_n_best_lists_count_once(tmp_path):
    path = write_output(tmp_path / "out", (1, "b", "B", "b"), (0, "a", "A"))
    assert score_against(path, "a", "b") == 0
    assert (tmp_path / "text").read_text() == "a\nb\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("D-0\t-1\told\nD-1\t-1\told\nD-0\t-1\tnew\nD-1\t-1\tnew\n", 0),
        # The end of a run that was killed and the whole next one, and two sentences that follow each other.
        ("D-1\t-1\told\nD-0\t-1\tol\nD-0\t-1\tnew\nD-1\t-1\tnew\n", 1),
        ("S-0\ta\nD-0\t-1\told\nS-0\ta\nD-0\t-1\tnew\nS-1\ta\nD-1\t-1\tnew\n", 0),
    ],
)
def test_two_outputs_in_one_file_are_refused(tmp_path, capsys, text, number):
    (tmp_path / "out").write_text(text)
    assert score_against(tmp_path / "out", "old", "new") == 1
    assert f"has sentence {number} twice, so it has more than one output" in capsys.readouterr().err
    assert not (tmp_path / "text").exists()


def test_an_output_of_another_text_is_refused(tmp_path, capsys):
    """Its targets tell it; a tokenizer and a normalizer may have changed them, and a few may be others."""
    sentences = [(number, "a") for number in range(4)]
    reference = ["„Der Hund“ & die Katze", "Es ist's!", "E-Mail", "Wiese"]
    targets = ["&quot; der H@@ und &quot; &amp; die Katze", "es ist &apos;s !", "E @-@ Mail", "<<unk>>"]
    assert score_against(write_output(tmp_path / "out", *sentences, targets=targets), *reference) == 0
    targets = ["Sie kommt .", "Er geht .", "E @-@ Mail", "<<unk>>"]
    capsys.readouterr()
    assert score_against(write_output(tmp_path / "out", *sentences, targets=targets), *reference) == 1
    message = "is of another text than the reference: its sentence 0 is 'Sie kommt .', but line 1 of the text is '„Der"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pieces", "flag"),
    [
        ("\u2581ein \u2581H aus", "--remove-bpe sentencepiece"),
        ("ein H@@ aus", "--remove-bpe"),
        ("ein Haus@@", "--remove-bpe"),
        ("ein Haus @-@ Tier", "--tokenizer moses"),
    ],
)
def test_text_in_pieces_is_refused_where_the_reference_is_not(tmp_path, capsys, pieces, flag):
    """And the other way round; if both are, they are compared, and a single odd line is text."""
    text = "ein Haus"
    assert score_against(write_output(tmp_path / "out", (0, pieces)), text) == 1
    assert capsys.readouterr().err.endswith(f"generate with {flag}\n")
    assert score_against(write_output(tmp_path / "out", (0, text)), pieces) == 1
    assert "give the reference as it was before it was split" in capsys.readouterr().err
    assert score_against(write_output(tmp_path / "out", (0, pieces)), pieces) == 0
    many = [(number, text) for number in range(1, 30)]
    assert score_against(write_output(tmp_path / "out", (0, pieces), *many), *[text] * 30) == 0


def test_what_is_no_output_and_another_test_set_are_refused(tmp_path, capsys):
    (tmp_path / "out").write_text("ein Haus\n")
    assert score_against(tmp_path / "out", "ein Haus") == 1
    assert "has no translation (a line D-0 ...)" in capsys.readouterr().err
    assert score_against(write_output(tmp_path / "out", (0, "a"), (1, "b")), "a") == 1
    assert "has 2 translations for 1 references; give the reference of the same test set" in capsys.readouterr().err


class TestByLength:
    """BLEU and chrF of the sentences in groups of source lengths."""

    SOURCES = ("a", "a b c", "a b c d", "a b c d e f g")
    REFERENCES = ("ein Haus am See", "zwei Hunde laufen im Park", "drei Katzen schlafen hier", "noch ein Satz ist da")
    TRANSLATIONS = ("ein Haus am See", "zwei Hunde laufen im Wald", "drei Katzen essen hier", "noch ein Wort ist da")

    @pytest.fixture
    def files(self, tmp_path):
        lines = [f"D-{number}\t-1\t{line}" for number, line in enumerate(self.TRANSLATIONS)]
        for name, text in (("out", lines), ("de", self.REFERENCES), ("en", self.SOURCES)):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in text))
        return [str(tmp_path / "out"), "--reference", str(tmp_path / "de"), "--source", str(tmp_path / "en")]

    def test_each_group_has_the_score_of_its_sentences(self, files, capsys):
        assert b2t(["score", *files, "--by-length", "1,3,5"]) == 0
        shown = [line.split() for line in capsys.readouterr().out.splitlines()]
        for words, group in (("0-1", slice(0, 1)), ("2-3", slice(1, 2)), ("4-5", slice(2, 3)), ("over 5", slice(3, 4))):
            scores = [
                metric.corpus_score(self.TRANSLATIONS[group], [self.REFERENCES[group]]).score
                for metric in (BLEU(), CHRF())
            ]
            assert [*words.split(), "1", *(f"{score:.2f}" for score in scores), "1.00"] in shown

    def test_the_default_groups_are_those_of_ten_words(self, files, capsys):
        """A group without sentences is left out."""
        assert b2t(["score", *files, "--by-length"]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"^0-10 +4 ", shown, flags=re.MULTILINE)
        assert "11-20" not in shown

    @pytest.mark.parametrize("bounds", ["20,10", "0,10", "ten", "\u00b2", "10,10", "10,"])
    def test_bounds_that_are_no_ascending_numbers_are_refused(self, files, capsys, bounds):
        assert b2t(["score", *files, "--by-length", bounds]) == 1
        assert f"--by-length {bounds}: give ascending numbers" in capsys.readouterr().err

    def test_source_and_groups_belong_together(self, files, tmp_path, capsys):
        for flags, words in ((files, "--source needs --by-length"), ([*files[:3], "--by-length"], "needs --source")):
            assert b2t(["score", *flags]) == 1
            assert words in capsys.readouterr().err
        (tmp_path / "en").write_text("a\n")
        assert b2t(["score", *files, "--by-length"]) == 1
        assert "has 1 lines and --reference" in capsys.readouterr().err

    def test_all_test_sets_of_a_run_are_grouped_together(self, sacrebleu_cache, tmp_path, capsys):
        names = list(NEWSTESTS)[:2]
        make_run(tmp_path / "run", 1, names)
        lengths = {len(line.split()) for name in names for line in sources(name)}
        assert b2t(["score", "run", "--by-length", str(max(lengths))]) == 0
        assert re.search(rf"^0-{max(lengths)} +{2 * SEGMENTS} ", capsys.readouterr().out, flags=re.MULTILINE)

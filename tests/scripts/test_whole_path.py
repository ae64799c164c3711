"""From WMT's archives to the table beside the papers' rows, by the commands that a researcher types."""

import json
import os
import re
import shutil

import pytest
from commands import BIN, script, stand_in
from helpers import ROOT
from training import load
from wmt import SMALL_CONFIG, pairs, prepare

from b2t_common.errors import InputError
from b2t_fairseq.hub import from_pretrained

NEWSTESTS = [f"newstest{year}" for year in range(2010, 2017)]


@pytest.fixture(scope="module")
def trained(world, prepared):
    """A run of some updates by scripts/train.sh."""
    (world / "config.sh").write_text(SMALL_CONFIG)
    arguments = ("--data", prepared / "bin", "--save-dir", world / "my run", "--cpu")
    script("train.sh", world / "config.sh", *arguments)
    return world / "my run"


def evaluate(world, run, *arguments, check=True, **variables):
    """Run scripts/evaluate.sh on a run."""
    flags = ("--cpu", "--max-len-b", "12")
    return script("evaluate.sh", run, *arguments, *flags, check=check, SACREBLEU=str(world / "sacrebleu"), **variables)


@pytest.fixture(scope="module")
def evaluated(world, trained):
    """The run, with its scores, and what scripts/evaluate.sh printed."""
    return trained, evaluate(world, trained).stdout


class TestEvaluate:
    def test_scores_of_all_sets_and_the_papers_rows(self, evaluated):
        """Each set is translated with the papers' length penalty, and the average stands beside the papers' rows."""
        run, text = evaluated
        scores = json.loads((run / "evaluation/scores.json").read_text())
        assert list(scores["sets"]) == NEWSTESTS
        mean = sum(scores["sets"][name]["metrics"]["BLEU"]["score"] for name in NEWSTESTS) / 7
        assert scores["average"]["BLEU"] == pytest.approx(mean)
        assert "B2T (release, 2023)" in text
        assert "27.52" in text
        for name in NEWSTESTS:
            assert len((run / f"evaluation/{name}.de").read_text().splitlines()) == 5
            generated = (run / f"evaluation/{name}.generated.txt").read_text()
            assert f"'lenpen': {0.6 if name == 'newstest2014' else 1.0}" in generated
            assert "'beam': 2" in generated
            sources = [line.split("\t")[1] for line in generated.splitlines() if line.startswith("S-")]
            expected = [source for source, _ in pairs(5, 100 + NEWSTESTS.index(name))]
            assert sorted(sources) == sorted(expected)

    def test_the_averaged_model_has_the_trained_parameters(self, evaluated):
        run, _ = evaluated
        averaged = load(run / "evaluation/averaged.pt")
        assert averaged["last_optimizer_state"] is None
        assert averaged["model"].keys() == load(run / "checkpoint_last.pt")["model"].keys()

    def test_a_second_call_translates_nothing_again(self, world, evaluated):
        run, text = evaluated
        files = {path: path.stat().st_mtime_ns for path in run.glob("evaluation/*.generated.txt")}
        again = evaluate(world, run).stdout
        assert "done before" in again
        assert again[again.index("== score") :] == text[text.index("== score") :]
        assert files == {path: path.stat().st_mtime_ns for path in files}

    @pytest.mark.slow
    def test_an_interrupted_evaluation_keeps_the_sets_that_are_done(self, world, trained, tmp_path):
        """A set that was translated before the script was killed is not translated again."""
        run = tmp_path / "run"
        shutil.copytree(trained, run, ignore=shutil.ignore_patterns("evaluation"))
        one_set = f'"{BIN}/b2t" "${{@/test,test1,test2/test}}"; kill -9 $PPID\n'
        path = stand_in(tmp_path / "bin", "b2t", f'[ "$1" = generate ] || exec "{BIN}/b2t" "$@"\n{one_set}')
        arguments = ("--sets", "newstest2010 newstest2011 newstest2012")
        assert evaluate(world, run, *arguments, check=False, PATH=path).returncode == -9
        finished = run / "evaluation/generate-test.txt"
        before = finished.stat().st_mtime_ns
        result = evaluate(world, run, *arguments)
        assert (run / "evaluation/newstest2010.generated.txt").stat().st_mtime_ns == before
        scores = json.loads((run / "evaluation/scores.json").read_text())
        assert list(scores["sets"]) == NEWSTESTS[:3]
        assert scores["average"] is None
        assert "no average" in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--sets", "newstest2009"], "--sets newstest2009: "),
            (["--data", "/nowhere"], "there is no test_sets.txt"),
            (["--last", "9"], "has 0 checkpoints by updates, not 9"),
        ],
    )
    def test_wrong_options_are_refused(self, world, trained, tmp_path, arguments, message):
        run = tmp_path / "run"
        run.mkdir()
        for name in ("settings.sh", "data.txt", "checkpoint_last.pt"):
            shutil.copy(trained / name, run)
        result = evaluate(world, run, *arguments, check=False)
        assert result.returncode == 1
        assert message in result.stdout


class TestHub:
    def test_the_three_lines_of_the_readme_work(self, evaluated, monkeypatch, capsys):
        """They translate plain sentences into plain sentences, the same as scripts/evaluate.sh."""
        run, _ = evaluated
        readme = (ROOT / "README.md").read_text()
        code = re.search(r"```python\n(import torch\n+model = .*?)```", readme, flags=re.DOTALL)[1]
        assert len([line for line in code.splitlines() if line]) == 3
        monkeypatch.chdir(ROOT)
        names = {}
        exec(code.replace("runs/quickstart-grammar", str(run)), names)
        translation = capsys.readouterr().out.strip()
        assert translation
        assert "\u2581" not in translation
        sources = [source for source, _ in pairs(5, 100)]
        expected = (run / "evaluation/newstest2010.de").read_text().splitlines()
        assert names["model"].translate(sources, beam=2, max_len_b=12) == expected

    def test_a_run_a_checkpoint_and_an_archive_are_loaded(self, evaluated, prepared, tmp_path):
        """An archive is one folder with checkpoint, dictionaries and subword model."""
        run, _ = evaluated
        for given in (
            {"model": run},
            {"model": run / "evaluation/averaged.pt"},
            {"model": run, "data": prepared / "bin"},
        ):
            model = from_pretrained(**given)
            assert model.bpe is not None
            assert not model.training
        assert len(from_pretrained(run, "checkpoint_last.pt:checkpoint_best.pt").models) == 2
        for file in (run / "checkpoint_last.pt", *(prepared / "bin").glob("dict.*.txt"), prepared / "bin/spm.model"):
            shutil.copy(file, tmp_path)
        with pytest.raises(InputError, match="does not say its languages"):
            from_pretrained(tmp_path)
        model = from_pretrained(tmp_path, source_lang="en", target_lang="de")
        assert model.cfg.bpe.sentencepiece_model == str(tmp_path / "spm.model")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["/nowhere"], "/nowhere: there is neither such a run nor such a checkpoint"),
            (["RUN", "checkpoint9.pt"], "has no checkpoint9.pt; it has checkpoint_"),
            (["RUN/evaluation", "averaged.pt", "/nowhere"], "/nowhere has no dictionaries"),
            (["RUN/tensorboard"], "has none of evaluation/averaged.pt"),
        ],
    )
    def test_the_message_says_what_is_missing(self, trained, arguments, message):
        (trained / "evaluation").mkdir(exist_ok=True)
        shutil.copy(trained / "checkpoint_last.pt", trained / "evaluation/averaged.pt")
        with pytest.raises(InputError) as error:
            from_pretrained(*(argument.replace("RUN", str(trained)) for argument in arguments))
        assert message in str(error.value)


@pytest.mark.slow
def test_translations_in_moses_bpe_are_scored_as_text(world, tmp_path):
    """What is scored has neither BPE marks nor separated punctuation."""
    prepare(world, tmp_path / "data", "--tokenization", "moses_bpe")
    (tmp_path / "config.sh").write_text(SMALL_CONFIG.replace("max_update=6", "max_update=150"))
    script("train.sh", tmp_path / "config.sh", "--data", tmp_path / "data/bin", "--save-dir", tmp_path / "run", "--cpu")
    evaluate(world, tmp_path / "run")
    text = (tmp_path / "run/evaluation/newstest2014.de").read_text()
    assert "@@" not in text
    assert " ." not in text
    assert "." in text


@pytest.mark.slow
@pytest.mark.skipif("SACREBLEU" not in os.environ, reason="SACREBLEU names no cache of the real test sets")
def test_all_segments_of_the_real_test_sets_are_scored(world, tmp_path):
    """A model that has hardly been trained translates all 19,666 of them."""
    real = {"SACREBLEU": os.environ["SACREBLEU"]}
    prepare(world, tmp_path / "data", **real)
    (tmp_path / "config.sh").write_text(SMALL_CONFIG)
    arguments = ("--data", tmp_path / "data/bin", "--save-dir", tmp_path / "run", "--cpu")
    # With the few pieces of this small corpus, real sentences are long.
    arguments += ("--disable-validation", "--max-source-positions", "4096", "--max-target-positions", "4096")
    script("train.sh", tmp_path / "config.sh", *arguments)
    script("evaluate.sh", tmp_path / "run", "--cpu", "--beam", "1", "--max-len-b", "4", "--max-len-a", "0", **real)
    scores = json.loads((tmp_path / "run/evaluation/scores.json").read_text())
    segments = [scores["sets"][name]["segments"] for name in NEWSTESTS]
    assert segments == [2489, 3003, 3003, 3000, 3003, 2169, 2999]


@pytest.mark.slow
def test_a_sweep_ends_with_one_table(world, prepared, tmp_path):
    """It has a row for each configuration, over two seeds; a second call finds everything done."""
    for name in ("post_ln", "b2t"):
        (tmp_path / f"{name}.sh").write_text(SMALL_CONFIG.replace("b2t ", f"{name} "))
    arguments = ["--seeds", "1 2", "--out", tmp_path / "sweep", "--data", prepared / "bin"]
    arguments += [tmp_path / "post_ln.sh", tmp_path / "b2t.sh", "--", "--cpu", "--log-interval", "2"]
    for _ in range(2):
        result = script("sweep.sh", *arguments, SACREBLEU=str(world / "sacrebleu"))
    assert result.stdout.count("nothing to do") == 4
    table = json.loads((tmp_path / "sweep/table.json").read_text())["configurations"]
    assert [row["configuration"] for row in table] == ["post_ln", "b2t"]
    assert [len(row["runs"]) for row in table] == [2, 2]
    assert table[0]["relative_speed"] == 1

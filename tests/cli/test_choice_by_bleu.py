"""``--eval-bleu``: the same BLEU as that of scripts/evaluate.sh stops a run, chooses its checkpoints and is drawn."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import sacrebleu
from fairseq.tasks.translation import TranslationTask
from logs import logged
from stopped import status, stopped_at, updates
from training import assert_same_model, load, train

from b2t_cli import main as b2t
from b2t_cli.fairseq_commands import validation_bleu
from b2t_cli.runs.run import read_all
from b2t_cli.runs.selection import best_checkpoints
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.upstream import stopping

# three updates in each epoch
SMALL = ["--encoder-layers", "1", "--decoder-layers", "1", "--max-tokens", "400"]
BY_BLEU = [*SMALL, "--eval-bleu", "--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]
STOPPING = [*BY_BLEU, "--patience", "2", "--max-epoch", "9", "--eval-bleu-args", '{"beam": 1, "max_len_b": 1}']
OF_EPOCHS = {1: 10, 2: 20, 3: 20, 4: 15}
"""The BLEU after each epoch in the tests of what follows from it."""


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Later runs in this process do not stop."""
    yield
    stopping._asked.clear()


@pytest.fixture
def known_bleu(monkeypatch):
    """Let the validation after each epoch have the BLEU of ``OF_EPOCHS``."""
    score = [0]

    def begin_valid_epoch(self, epoch, model):
        score[0] = OF_EPOCHS[epoch]

    def inference_with_bleu(self, generator, sample, model):
        return SimpleNamespace(sys_len=100, ref_len=100, counts=score * 4, totals=[100] * 4)

    monkeypatch.setattr(TranslationTask, "begin_valid_epoch", begin_valid_epoch)
    monkeypatch.setattr(TranslationTask, "_inference_with_bleu", inference_with_bleu)


def test_bleu_in_validation_is_that_of_the_text(unigram_data, words, tmp_path, capsys):
    """Of b2t generate with --remove-bpe and sacreBLEU, against the text before it was cut into pieces."""
    search = ["--eval-bleu-args", '{"beam": 2, "min_len": 9, "max_len_b": 20}']
    state = train(unigram_data, tmp_path, *BY_BLEU, *search, "--lr", "0.03", "--max-update", "6", command=b2t_train)
    dictionary = Path(unigram_data) / "dict.de.txt"
    assert f"--eval-bleu: --eval-bleu-remove-bpe sentencepiece, because of {dictionary}" in capsys.readouterr().out
    flags = ["--path", str(tmp_path / "checkpoint_last.pt"), "--gen-subset", "valid", "--remove-bpe", "sentencepiece"]
    flags += ["--beam", "2", "--min-len", "9", "--max-len-b", "20", "--num-workers", "0"]
    b2t(["generate", unigram_data, *flags, "--cpu", "--required-batch-size-multiple", "1"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.startswith("H-")]
    hypotheses = [text for _, _, text in sorted(lines, key=lambda line: int(line[0][2:]))]
    references = (words / "valid.de").read_text().splitlines()
    bleu = sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert 0 < bleu < 100
    assert state["extra_state"]["val_loss"] == round(bleu, 2)


@pytest.mark.usefixtures("known_bleu")
class TestWhatFollowsFromIt:
    def test_a_run_stops_by_it_and_its_best_checkpoints_are_averaged(self, data, tmp_path, capsys):
        """Patience counts from the first of equal scores; the best checkpoints are the last ones of equal scores."""
        run = tmp_path / "run"
        with logged(run / "train.log"):
            assert status(data, run, *STOPPING) == 0
        assert updates(run) == 12
        assert updates(run, "checkpoint_best.pt") == 9
        assert status(data, run, *STOPPING) == 0
        assert "has not improved for 2 validations" in capsys.readouterr().out
        assert [updates(run, file.name) for file in best_checkpoints(run, 3)] == [9, 6, 12]
        assert b2t(["average", str(run), "--best", "2", "--output", str(tmp_path / "best.pt")]) == 0
        assert "(checkpoint3.pt, checkpoint2.pt)" in capsys.readouterr().out
        files = [str(run / name) for name in ("checkpoint3.pt", "checkpoint2.pt")]
        assert b2t(["average", *files, "--output", str(tmp_path / "named.pt")]) == 0
        assert_same_model(load(tmp_path / "best.pt"), load(tmp_path / "named.pt"))
        with pytest.raises(InputError, match="has 4 checkpoints with the result of a validation, not 5"):
            best_checkpoints(run, 5)

        assert b2t(["report", str(run), "--text"]) == 0
        assert "valid BLEU: the highest one" in (printed := capsys.readouterr().out)
        assert " 20.00 " in printed
        assert list(read_all([run])[0].log.validation()["bleu"]) == list(OF_EPOCHS.values())

    def test_a_run_in_parts_stops_at_the_same_update(self, data, tmp_path, monkeypatch):
        """Of the checkpoints that --keep-best-checkpoints keeps, the best ones are found."""
        flags = [*STOPPING, "--keep-best-checkpoints", "5", "--no-epoch-checkpoints"]
        assert stopped_at(8, monkeypatch, data, tmp_path, *flags) == stopping.EXIT_STATUS
        assert status(data, tmp_path, *flags) == 0
        assert updates(tmp_path) == 12
        assert updates(tmp_path, "checkpoint_best.pt") == 9
        best = best_checkpoints(tmp_path, 3)
        assert [updates(tmp_path, file.name) for file in best] == [9, 6, 12]
        assert all(file.name.startswith("checkpoint.best_bleu_") for file in best)

    def test_another_metric_begins_to_count(self, data, tmp_path):
        """A loss is not compared with a BLEU, neither for the best checkpoint nor for the patience."""
        by_loss = [*SMALL, "--max-epoch", "1", "--patience", "1"]
        train(data, tmp_path, *by_loss, command=b2t_train)
        flags = [*STOPPING, "--max-epoch", "2", "--patience", "1"]
        state = train(data, tmp_path, *flags, command=b2t_train)["extra_state"]
        assert state["best"] == state["b2t_run"]["patience"]["best"] == 20
        with pytest.raises(InputError, match=r"checkpoint1.pt by lowest loss, checkpoint2.pt by highest bleu"):
            best_checkpoints(tmp_path, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--best", "2", "--last", "3"], "--best 2 and --last 3 choose differently"),
        (["--best", "2", "--by", "updates"], "--best 2 and --by updates choose differently"),
        (["--best", "0"], "--best 0"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(tmp_path, capsys, arguments, message):
    assert b2t(["average", str(tmp_path), *arguments, "--output", str(tmp_path / "averaged.pt")]) == 1
    assert message in capsys.readouterr().err


def test_the_lowest_bleu_is_not_the_best(data, tmp_path):
    with pytest.raises(InputError, match="would take the lowest bleu for the best; add --maximize-best-checkpoint"):
        train(data, tmp_path, *BY_BLEU[:-1], command=b2t_train)


def settings(folder, **flags):
    """Return what is read of the settings of a training with ``--eval-bleu``."""
    defaults = {"eval_bleu_remove_bpe": None, "eval_bleu_detok": "space", "eval_bleu_detok_args": "{}"}
    return SimpleNamespace(
        task=SimpleNamespace(
            data=str(folder), source_lang="en", target_lang="de", eval_bleu=True, **{**defaults, **flags}
        )
    )


class TestHowTextIsMade:
    def test_as_moses_and_subword_nmt_are_undone(self, tmp_path, capsys):
        """fairseq's detokenizer is told the language."""
        (tmp_path / "detokenize.txt").write_text("--remove-bpe\n--tokenizer\nmoses\n")
        cfg = settings(tmp_path)
        validation_bleu.complete(cfg, ["--eval-bleu"])
        assert cfg.task.eval_bleu_remove_bpe == "@@ "
        assert cfg.task.eval_bleu_detok == "moses"
        assert json.loads(cfg.task.eval_bleu_detok_args) == {"source_lang": "en", "target_lang": "de"}
        assert "--eval-bleu-remove-bpe '@@ ' --eval-bleu-detok moses" in capsys.readouterr().out

    def test_flags_that_are_given_stay(self, tmp_path, capsys):
        (tmp_path / "detokenize.txt").write_text("--remove-bpe\n--tokenizer\nmoses\n")
        cfg = settings(tmp_path, eval_bleu_remove_bpe="sentencepiece")
        given = ["--eval-bleu", "--eval-bleu-remove-bpe=sentencepiece", "--eval-bleu-detok", "space"]
        validation_bleu.complete(cfg, given)
        assert (cfg.task.eval_bleu_remove_bpe, cfg.task.eval_bleu_detok) == ("sentencepiece", "space")
        assert not capsys.readouterr().out

    @pytest.mark.parametrize(
        ("symbols", "expected"), [("a@@ b@@ c", "@@ "), ("\u2581a b c", "sentencepiece"), ("a b c", None)]
    )
    def test_a_dictionary_tells_its_pieces(self, tmp_path, symbols, expected):
        (tmp_path / "dict.de.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols.split(" ")))
        cfg = settings(tmp_path)
        validation_bleu.complete(cfg, ["--eval-bleu"])
        assert cfg.task.eval_bleu_remove_bpe == expected

    def test_a_missing_detokenizer_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(validation_bleu.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InputError, match=r"--eval-bleu-detok moses needs sacremoses, .*: pip install sacremoses"):
            validation_bleu.complete(settings(tmp_path, eval_bleu_detok="moses"), [])

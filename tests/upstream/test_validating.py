"""What is wrong with a validation is said before the first update, and what fails in it loses no epoch."""

import pytest
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer
from stopped import status, updates
from training import assert_same_model, load, train

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError


@pytest.fixture
def without_updates(monkeypatch):
    """Let no update be computed."""

    def train_step(self, samples, raise_oom=False):
        raise AssertionError("an update was computed")

    monkeypatch.setattr(Trainer, "train_step", train_step)


@pytest.mark.usefixtures("without_updates")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--best-checkpoint-metric", "bleu"], "computes bsz, loss, nll_loss, .*; bleu needs --eval-bleu"),
        (["--best-checkpoint-metric", "los"], "--best-checkpoint-metric los: .* computes bsz, loss"),
        (["--max-source-positions", "7", "--max-target-positions", "7"], "--valid-subset valid: Size of sample #"),
        (["--max-tokens-valid", "6"], "--max-tokens-valid 6: a sentence of 'valid' has 8 tokens"),
    ],
)
def test_what_is_known_before_the_first_update(data, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        train(data, tmp_path, *flags, command=b2t_train)


def test_trying_the_validation_changes_no_training(data, tmp_path):
    """The same bits as with fairseq-train, although that validation draws random numbers."""
    flags = ["--max-update", "3", "--eval-bleu", "--eval-bleu-args", '{"sampling": true, "beam": 1, "max_len_b": 5}']
    stock = train(data, tmp_path / "stock", *flags)
    assert_same_model(stock, train(data, tmp_path / "ours", *flags, command=b2t_train))


class TestFailure:
    """A validation that fails loses no epoch: the same command continues after it."""

    @pytest.mark.parametrize(
        ("failing", "error", "saved"),
        [(1, KeyboardInterrupt, 5), (2, RuntimeError, 10)],
        ids=["first-by-force", "second"],
    )
    def test_the_epoch_is_saved(self, data, tmp_path, monkeypatch, failing, error, saved):
        whole = train(data, tmp_path / "whole", "--max-epoch", "3")
        step, begun = TranslationTask.valid_step, []

        def valid_step(self, sample, model, criterion):
            begun.append(sample)
            if len(begun) == 1 + failing:  # the first one is the attempt before the training
                raise error("no BLEU today")
            return step(self, sample, model, criterion)

        with monkeypatch.context() as patch:
            patch.setattr(TranslationTask, "valid_step", valid_step)
            with pytest.raises(error):
                train(data, tmp_path / "run", "--max-epoch", "3", command=b2t_train)
        assert updates(tmp_path / "run") == saved
        assert updates(tmp_path / "run", f"checkpoint{failing}.pt") == saved
        assert status(data, tmp_path / "run", "--max-epoch", "3") == 0
        assert_same_model(whole, load(tmp_path / "run/checkpoint_last.pt"))


def test_bleu_of_empty_translations_is_zero(data, tmp_path):
    flags = ["--eval-bleu", "--eval-bleu-args", '{"max_len_a": 0, "max_len_b": 0, "min_len": 0}', "--max-update", "2"]
    flags += ["--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]
    assert train(data, tmp_path, *flags, command=b2t_train)["extra_state"]["best"] == 0

"""What benchmarks read from finished runs of their drivers: which score of which setting, and what is refused."""

import pytest
from logs import reported, validated, write_log

from b2t_common.errors import InputError
from b2t_common.model_line import ModelLine, format_model_line
from b2t_common.names import STACKS
from benchmarks import early_stopping_quality, sampling_quality

MODEL = format_model_line(ModelLine("b2t", "none", {stack: [0, 1] for stack in STACKS}, 1234, 1234))


def score_file(bleu):
    return f"BLEU|nrefs:1 = {bleu}\nchrF2|nrefs:1 = {bleu + 20}\n"


def write_run(folder, bleu, validations=(30.0,)):
    """Write what scripts/quickstart.sh leaves of a run: a validation with BLEU every 500 updates, and the score."""
    folder.mkdir(parents=True)
    log = [MODEL]
    for number, value in enumerate(validations, start=1):
        log.append(reported(500 * number, 4.0))
        log.append(f"{validated(500 * number, 4.0)} | bleu {value}")
    write_log(folder / "train.log", *log)
    (folder / "score.txt").write_text(score_file(bleu))
    return folder


class TestEarlyStopping:
    def test_the_highest_bleu_in_validation_is_the_best_and_of_equal_ones_the_later(self, tmp_path):
        for alpha, bleu in ((0, 35.5), (5, 36.5)):
            run = write_run(tmp_path / f"r_drop_{alpha}", bleu, [31.0, 33.25, 32.0, 33.25, 30.0])
            (run / "last_score.txt").write_text(score_file(bleu - 1))
        first, second = early_stopping_quality.read_rows(tmp_path)
        assert first == {
            "r_drop": 0.0,
            "parameters": 1234,
            "updates": 2500,
            "best_update": 2000,
            "best_validation_bleu": 33.25,
            "bleu_of_best": 35.5,
            "bleu_of_last": 34.5,
        }
        assert second["r_drop"] == 5.0
        assert second["bleu_of_best"] == 36.5

    def test_a_run_without_the_score_of_its_last_checkpoints_is_not_finished(self, tmp_path):
        write_run(tmp_path / "r_drop_0", 35.5)
        with pytest.raises(InputError, match=r"last_score\.txt is not there: .*early_stopping/run\.sh has not"):
            early_stopping_quality.read_rows(tmp_path)

    def test_a_folder_of_other_runs_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"has no folder r_drop_\.\.\.; give the folder of benchmarks/early"):
            early_stopping_quality.read_rows(tmp_path)


class TestSampling:
    def test_each_setting_is_compared_with_none_seed_by_seed(self, tmp_path):
        for setting, scores in (("0.1", (34.0, 36.5)), ("none", (35.0, 36.0))):
            for seed, bleu in enumerate(scores, start=1):
                write_run(tmp_path / setting / f"seed{seed}", bleu)
        without, sampled = sampling_quality.read_rows(tmp_path)
        assert (without["sampling"], without["bleu"], without["differences"]) == ("none", [35.0, 36.0], [0.0, 0.0])
        assert (sampled["sampling"], sampled["differences"]) == ("0.1", [-1.0, 0.5])

    def test_settings_with_different_seeds_are_refused(self, tmp_path):
        write_run(tmp_path / "none/seed1", 35.0)
        write_run(tmp_path / "0.1/seed2", 34.0)
        with pytest.raises(InputError, match=r"0\.1 has the runs \['seed2'\], none has \['seed1'\]"):
            sampling_quality.read_rows(tmp_path)

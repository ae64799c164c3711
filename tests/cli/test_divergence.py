"""A run that diverges is distinguished from runs with noise, with spikes and with slow learning."""

import math

import pytest
from logs import PREFIX, START, UPDATES, falling, reported, synthetic, write_log

from b2t_cli.runs import divergence, log


@pytest.mark.parametrize("seed", range(20))
def test_fluctuations_are_no_divergence(tmp_path, seed):
    """These are much noise, spikes, a rise that passes, and a slow rise within the noise."""
    losses = falling(seed, noise=0.4)
    losses[seed + 5] += 6
    losses[30:38] = [loss + 3 for loss in losses[30:38]]
    assert divergence.find(synthetic(tmp_path, losses)) is None
    drifting = [loss + update / 10_000 for loss, update in zip(falling(seed), UPDATES, strict=True)]
    assert divergence.find(synthetic(tmp_path, drifting)) is None


def test_a_lasting_rise_is_a_divergence(tmp_path):
    """It is found soon after the loss leaves its noise."""
    losses = falling()
    losses[25:] = [min(10, 4 + index / 2) for index in range(1, 16)]
    result = divergence.find(synthetic(tmp_path, losses))
    # The limit is about 4.1 + 1 bits, and the loss rises by half a bit with each report.
    assert 2600 <= result.update <= 2900
    assert "rose from 4." in result.reason


def test_a_rise_of_nine_reports_is_no_divergence(tmp_path):
    """It may still pass."""
    losses = falling()
    losses[-9:] = [9.0] * 9
    assert divergence.find(synthetic(tmp_path, losses)) is None


def test_a_loss_of_a_unigram_model_is_a_divergence(tmp_path):
    """The model has learnt nothing but frequencies; this is not so if the loss still falls, or during the warm-up."""
    losses = [10.5 + 4 * math.exp(-update / 300) for update in UPDATES]
    result = divergence.find(synthetic(tmp_path, losses))
    assert "no better than a unigram model of 32,000 words" in result.reason
    assert divergence.find(synthetic(tmp_path, falling(low=8.0))) is None
    learning = [10.5 - update / 4000 for update in UPDATES]
    assert divergence.find(synthetic(tmp_path, learning)) is None
    assert divergence.find(synthetic(tmp_path, losses, vocabulary=50)) is None
    warming_up = [reported(update, loss, lr=update) for update, loss in zip(UPDATES, losses, strict=True)]
    assert divergence.find(synthetic(tmp_path, losses, *warming_up)) is None


@pytest.mark.parametrize("values", [{"loss": "nan"}, {"loss": "inf"}, {"gnorm": "nan"}])
def test_a_loss_or_gradient_that_is_not_finite_is_a_divergence(tmp_path, values):
    """It is none if later values are finite."""
    reports = [reported(update, **{"loss": 4.0} | values) for update in (4100, 4200)]
    result = divergence.find(synthetic(tmp_path, falling(), *reports))
    assert result.update == 4100
    assert "not finite" in result.reason
    assert divergence.find(synthetic(tmp_path, falling(), *reports, reported(4300, 4.0))) is None


def test_nan_is_read_from_json_too(tmp_path):
    line = '{"epoch": 1, "loss": "nan", "num_updates": "4100", "gnorm": "0.5"}'
    assert divergence.find(synthetic(tmp_path, falling(), f"train_inner | {line}")).update == 4100


def test_a_run_that_fairseq_ended_has_diverged(tmp_path):
    """fairseq ends one with a loss that cannot be scaled; a later start that goes well counts instead."""
    error = "FloatingPointError: Minimum loss scale reached (0.0001). Your loss is probably exploding."
    path = write_log(tmp_path / "train.log", START, reported(1, 9), reported(2, 8))
    path.write_text(f"{path.read_text()}Traceback (most recent call last):\n{error}\n")
    result = divergence.find(log.read(path))
    assert result == (2, "fairseq gave up: Minimum loss scale reached (0.0001)")
    path.write_text(path.read_text() + f"{PREFIX}{START}\n{PREFIX}{reported(2, 7)}\n")
    assert divergence.find(log.read(path)) is None

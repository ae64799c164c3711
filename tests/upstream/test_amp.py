"""``--amp``: what fairseq gets wrong about its loss scale, shown on a CPU with PyTorch's scaler for CPUs."""

import contextlib
import shlex

import pytest
import torch
from fairseq.modules import AdaptiveInput
from training import (
    MODEL_FLAGS,
    SHARED,
    TRAIN_FLAGS,
    assert_same_model,
    assert_same_run,
    train,
    whole_and_resumed,
)

NAG = shlex.join(MODEL_FLAGS + TRAIN_FLAGS).replace("adam --adam-betas '(0.9, 0.98)'", "nag --momentum 0.9")


@pytest.fixture
def scaled(monkeypatch):
    """The loss is scaled as on a GPU; all products stay in float32, where a power of two is an exact scale."""

    def scaler(init_scale, **settings):
        return torch.amp.GradScaler("cpu", float(init_scale), **settings)

    monkeypatch.setattr("torch.cuda.amp.GradScaler", scaler)
    monkeypatch.setattr("torch.cuda.amp.autocast", lambda enabled: contextlib.nullcontext())


@pytest.mark.usefixtures("scaled")
class TestLossScale:
    def test_gradients_are_divided_by_it_once(self, data, tmp_path):
        """nag is not Adam, for which gradients that are too small by a factor are hardly different ones."""
        flags = [*SHARED, "--disable-validation", "--max-update", "3"]
        plain = train(data, tmp_path / "plain", *flags, basis=shlex.split(NAG))
        scaled = train(data, tmp_path / "scaled", *flags, "--amp", basis=shlex.split(NAG))
        assert_same_model(plain, scaled)

    def test_it_is_that_of_the_flags(self, data, tmp_path):
        flags = [
            "--disable-validation",
            "--amp",
            "--amp-init-scale",
            "64",
            "--amp-scale-window",
            "2",
            "--max-update",
            "3",
        ]
        state = train(data, tmp_path, *flags)["extra_state"]["b2t_loss_scaling"]
        assert state == {"scale": 128, "_growth_tracker": 1, "retries": 0}

    def test_a_resumed_run_continues_with_it(self, data, tmp_path):
        """Gradients overflow before and after the interruption; fairseq counts how often it repeats an update."""
        flags = [
            *SHARED,
            "--disable-validation",
            "--amp",
            "--fp16-init-scale",
            str(2**122),
            "--amp-scale-window",
            "2",
            "--max-update",
        ]
        whole, resumed = whole_and_resumed(data, tmp_path, *flags)
        assert_same_run(whole, resumed)
        assert whole["extra_state"]["b2t_loss_scaling"]["retries"] == 2


def test_adaptive_input_stays_in_float32():
    """fairseq writes projections, which autocasting makes half precision, into a buffer that is float32."""
    embedding = AdaptiveInput(20, 1, initial_dim=8, factor=2, output_dim=8, cutoff=[10])
    words = torch.tensor([[4, 15, 9, 12]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = embedding(words)
    assert output.equal(embedding(words))

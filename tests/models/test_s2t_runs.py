"""Speech to text: whole runs on synthetic features, by the commands."""

import functools
import shlex
import sys

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq_cli import generate as fairseq_generate
from fairseq_cli import train as fairseq_train
from speech import MELS
from training import PLUGIN, assert_same_model
from training import train as train_in_process

from b2t_cli.average import main as b2t_average
from b2t_cli.convert import main as b2t_convert
from b2t_cli.generate import main as b2t_generate
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set in fairseq's format for speech, where each word is a vector of its own in some noisy frames."""
    folder = tmp_path_factory.mktemp("a speech")
    (folder / "features").mkdir()
    noise = np.random.default_rng(0)
    sounds = noise.normal(size=(8, MELS))
    (folder / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(8)))
    config = f"audio_root: {folder / 'features'}\nvocab_filename: dict.txt\ninput_feat_per_channel: {MELS}\n"
    (folder / "config.yaml").write_text(config + "feature_transforms: {'*': [utterance_cmvn]}\n")
    (folder / "masked.yaml").write_text(
        config + "feature_transforms: {_train: [utterance_cmvn, specaugment], _eval: [utterance_cmvn]}\n"
        "specaugment: {freq_mask_N: 1, freq_mask_F: 8, time_mask_N: 1, time_mask_T: 4, time_mask_p: 1.0}\n"
    )
    for split, utterances in (("train", 24), ("dev", 6), ("test", 11)):
        rows = ["id\taudio\tn_frames\ttgt_text\tspeaker"]
        for utterance in range(utterances):
            words = noise.integers(8, size=noise.integers(2, 6))
            frames = np.repeat(sounds[words], noise.integers(6, 12, size=len(words)), axis=0)
            name = f"{split}{utterance}.npy"
            np.save(folder / "features" / name, (frames + noise.normal(size=frames.shape)).astype("float32"))
            text = " ".join(f"w{word}" for word in words)
            rows.append(f"{split}{utterance}\t{name}\t{len(frames)}\t{text}\tspeaker")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return str(folder)


MODEL = shlex.split(
    "--task speech_to_text --arch b2t_s2t_transformer_s --conv-channels 16 --dropout 0.1 "
    "--encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --encoder-layers 4 --decoder-layers 4 "
    "--layer-sharing cycle_rev --encoder-unique-layers 2 --decoder-unique-layers 2"
)
TRAINING = shlex.split(
    f"--user-dir {shlex.quote(PLUGIN)} --cpu --seed 7 --num-workers 0 --max-tokens 400 "
    "--train-subset train --valid-subset dev --required-batch-size-multiple 1 "
    "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 "
    "--optimizer adam --lr 0.01 --lr-scheduler inverse_sqrt --warmup-updates 4 --clip-norm 10.0 --no-progress-bar"
)
train = functools.partial(train_in_process, basis=MODEL + TRAINING, command=b2t_train)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of eight updates by fairseq-train: its folder and its last checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train(data, folder, "--max-update", "8", command=fairseq_train.cli_main)


def generated(output):
    """Return the hypotheses in the output of fairseq-generate, by the utterance's number."""
    lines = [line.split("\t") for line in output.splitlines() if line.startswith("D-")]
    return {int(number[2:]): text for number, _, text in lines}


def test_all_utterances_are_transcribed(data, run, tmp_path, capsys):
    """fairseq-generate transcribes with the last checkpoint, b2t generate with an average."""
    folder, state = run
    assert state["cfg"]["model"].residual == "b2t"
    argv = [data, "--user-dir", PLUGIN, "--task", "speech_to_text", "--path", str(folder / "checkpoint_last.pt")]
    argv += ["--gen-subset", "test", "--beam", "3", "--cpu", "--max-tokens", "500"]
    argv += ["--required-batch-size-multiple", "1", "--max-len-b", "20", "--no-progress-bar", "--num-workers", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairseq-generate", *argv])
        fairseq_generate.cli_main()
    output = capsys.readouterr().out
    assert sorted(generated(output)) == list(range(11))
    averaged = str(tmp_path / "averaged.pt")
    b2t_average([str(folder), "--last", "2", "--output", averaged])
    b2t_generate([averaged if word.endswith("checkpoint_last.pt") else word for word in argv])
    assert sorted(generated(capsys.readouterr().out)) == list(range(11))


def test_resumed_run_equals_uninterrupted_run(data, run, tmp_path):
    """b2t train continues it in the middle of the second epoch, and leaves it alone when it is finished."""
    train(data, tmp_path, "--max-update", "4")
    resumed = train(data, tmp_path, "--max-update", "8")
    assert_same_model(run[1], resumed)
    written = (tmp_path / "checkpoint_last.pt").stat().st_mtime_ns
    train(data, tmp_path, "--max-update", "8")
    assert (tmp_path / "checkpoint_last.pt").stat().st_mtime_ns == written


@pytest.mark.parametrize("to", ["stock", "safetensors"])
def test_conversion_of_a_speech_model_is_refused(run, tmp_path, to):
    with pytest.raises(InputError, match=r"model b2t_s2t_transformer_s; only translation models"):
        b2t_convert([str(run[0] / "checkpoint_last.pt"), str(tmp_path / "out"), "--to", to])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--residual", "pre_ln"], "residual B2T there, Pre-LN here"),
        (["--conv-kernel-sizes", "3,3"], "conv_kernel_sizes 5,5 there, 3,3 here"),
        (["--encoder-unique-layers", "4"], "encoder_unique_layers 2 there, 4 here"),
    ],
)
def test_the_folder_of_another_run_is_refused(data, run, flags, words):
    with pytest.raises(InputError, match=words):
        train(data, run[0], "--max-update", "9", *flags)


def test_a_pretrained_encoder_is_loaded_and_frozen(data, run, tmp_path):
    """Later its file is not needed, since the run's own checkpoint has the encoder."""
    pretrained = tmp_path / "pretrained.pt"
    torch.save(run[1], pretrained)
    flags = ["--load-pretrained-encoder-from", str(pretrained), "--encoder-freezing-updates", "9", "--seed", "8"]
    state = train(data, tmp_path / "run", "--max-update", "2", *flags)
    for name, tensor in run[1]["model"].items():
        if name.startswith("encoder."):
            assert torch.equal(state["model"][name], tensor), name
    pretrained.unlink()
    models, _ = checkpoint_utils.load_model_ensemble([str(tmp_path / "run/checkpoint_last.pt")])
    assert_same_model({"model": models[0].state_dict()}, state)
    torch.save(run[1], pretrained)
    with pytest.raises(InputError, match=r"(?s)cannot be used.*trained with --residual b2t"):
        train(data, tmp_path / "other", "--max-update", "2", *flags, "--residual", "post_ln")


def test_a_run_with_admin_is_profiled_on_its_first_batch(data, tmp_path, caplog):
    caplog.set_level("INFO")
    state = train(data, tmp_path, "--max-update", "1", "--residual", "admin")
    assert "Admin: profiled on the first batch" in caplog.text
    assert state["model"]["encoder.transformer_layers.3.residual.profiled"] == 1


def test_the_fused_criterion_gives_the_same_run(data, run, tmp_path):
    state = train(data, tmp_path, "--max-update", "8", "--criterion", "label_smoothed_cross_entropy_fused")
    assert state["extra_state"]["val_loss"] == pytest.approx(run[1]["extra_state"]["val_loss"], abs=0.002)


def test_ctc_trains_on_masked_features(data, tmp_path):
    """fairseq's criterion trains a CTC output of the encoder too, on features masked by SpecAugment."""
    criterion = ["--criterion", "label_smoothed_cross_entropy_with_ctc", "--ctc-weight", "0.3"]
    state = train(data, tmp_path, "--max-update", "1", "--config-yaml", "masked.yaml", *criterion)
    assert state["model"]["encoder.ctc_proj.weight"].shape == (12, 16)

"""A checkpoint of another model is refused, with a message that says what differs."""

import hashlib

import pytest
import torch
from fairseq import checkpoint_utils
from helpers import make_model, randomize
from training import SHARED, train

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.upstream.patching import ORIGINALS

THREE = {"encoder_unique_layers": 3, "decoder_unique_layers": 3}
ONE = {"encoder_unique_layers": 1, "decoder_unique_layers": 1}


def state_of(**flags):
    return randomize(make_model(**flags)).state_dict()


@pytest.mark.parametrize(
    ("saved", "indices"),
    [
        ({"layer_sharing": "cycle", **THREE}, "0 1 2 0 1 2"),
        ({}, "0 1 2 3 4 5"),
        ({"layer_sharing": "sequence", **ONE}, "0 0 0 0 0 0"),
    ],
)
def test_other_sharing_is_refused(saved, indices):
    """The message has the index lists of both models, and the flags of this one."""
    model = randomize(make_model(layer_sharing="sequence", **THREE))
    with pytest.raises(InputError) as error:
        model.load_state_dict(state_of(**saved))
    message = str(error.value)
    assert f"encoder layers use the parameter sets {indices}" in message
    assert "decoder layers" in message
    assert "this model uses 0 0 1 1 2 2 (--layer-sharing sequence --encoder-unique-layers 3)" in message


@pytest.mark.parametrize(("saved", "built"), [("post_ln", "b2t"), ("b2t", "post_ln")])
def test_another_scheme_is_refused(saved, built):
    """Names and shapes are the same; the checkpoint's metadata has the scheme."""
    with pytest.raises(InputError, match=f"--residual {saved}.*--residual {built}"):
        make_model(residual=built).load_state_dict(state_of(residual=saved))


def test_a_run_does_not_go_on_with_another_scheme(corpus, tmp_path):
    train(str(corpus / "bin"), tmp_path, "--residual", "post_ln", "--max-update", "1")
    before = hashlib.sha256((tmp_path / "checkpoint_last.pt").read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"checkpoint_last.pt cannot be used: .*trained with --residual post_ln"):
        train(str(corpus / "bin"), tmp_path, "--residual", "b2t", "--max-update", "2")
    assert hashlib.sha256((tmp_path / "checkpoint_last.pt").read_bytes()).hexdigest() == before


def test_the_same_model_loads():
    flags = {"layer_sharing": "cycle_rev", **THREE}
    state = state_of(**flags)
    model = make_model(**flags)
    model.load_state_dict(state)
    for name, tensor in model.state_dict().items():
        if tensor.numel() > 1:
            assert torch.equal(tensor, state[name])


def test_a_checkpoint_of_fairseqs_transformer_loads():
    stock = randomize(make_model("transformer")).state_dict()
    make_model(residual="post_ln").load_state_dict(stock)


def test_a_run_of_fairseqs_transformer_goes_on_as_post_ln_only(corpus, tmp_path):
    stock = ["--arch", "transformer_tiny", "--max-update", "1"]
    train(str(corpus / "bin"), tmp_path, *stock, command=b2t_train)
    train(str(corpus / "bin"), tmp_path, *stock, "--max-update", "2", command=b2t_train)
    with pytest.raises(InputError, match=r"residual Post-LN there, B2T here"):
        train(str(corpus / "bin"), tmp_path, "--residual", "b2t", "--max-update", "3", command=b2t_train)
    train(str(corpus / "bin"), tmp_path, "--residual", "post_ln", "--max-update", "3", command=b2t_train)


def test_other_spellings_of_the_same_run_are_accepted(corpus, tmp_path):
    pre_ln = ["--residual", "pre_ln", "--max-update"]
    explicit = ["--encoder-normalize-before", "--decoder-normalize-before"]
    train(str(corpus / "bin"), tmp_path, *pre_ln, "1", *explicit, command=b2t_train)
    train(str(corpus / "bin"), tmp_path, *pre_ln, "2", "--dropout", "0.2", command=b2t_train)


def test_a_run_does_not_go_on_with_other_languages(corpus, tmp_path):
    train(str(corpus / "bin"), tmp_path, "--max-update", "1", command=b2t_train)
    with pytest.raises(InputError, match="languages en-de there, de-en here"):
        train(str(corpus / "bin"), tmp_path, "-s", "de", "-t", "en", "--max-update", "2", command=b2t_train)


def test_nan_in_a_diverged_checkpoint_is_not_taken_for_other_sharing():
    flags = {"layer_sharing": "cycle_rev", **THREE}
    state = state_of(**flags)
    state["encoder.layers.0.fc1.weight"].fill_(float("nan"))
    make_model(**flags).load_state_dict(state)


def test_the_folder_of_another_run_is_left_alone(corpus, tmp_path, capsys):
    train(str(corpus / "bin"), tmp_path, *SHARED, "--max-update", "1")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.pt")}
    flags = "--arch b2t_transformer_tiny --max-tokens 160 --cpu --optimizer adam --lr 0.1"
    assert b2t(["train", str(corpus / "bin"), *flags.split(), "--save-dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"--save-dir {tmp_path} holds another run" in message
    assert "layer_sharing cycle_rev there, none here" in message
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.pt")} == before


def test_models_are_read_from_mapped_files(data, tmp_path, monkeypatch):
    """They are what fairseq reads, and need their files no longer."""
    train(data, tmp_path, *SHARED, "--max-update", "1")
    path, read, is_mapped = tmp_path / "checkpoint_last.pt", torch.load, []
    monkeypatch.setattr(
        torch, "load", lambda *args, **kwargs: is_mapped.append(kwargs.get("mmap")) or read(*args, **kwargs)
    )
    arguments = [str(path), str(path)], {"max_source_positions": 77}
    fairseqs, fairseqs_cfg, _ = ORIGINALS["fairseq.checkpoint_utils.load_model_ensemble_and_task"](*arguments)
    assert not any(is_mapped)
    is_mapped.clear()
    ours, cfg, _ = checkpoint_utils.load_model_ensemble_and_task(*arguments)
    assert is_mapped == [True, True]
    path.write_bytes(b"")
    assert cfg == fairseqs_cfg
    assert cfg.model.max_source_positions == 77
    for model, fairseqs_model in zip(ours, fairseqs, strict=True):
        for name, tensor in model.state_dict().items():
            assert tensor.equal(fairseqs_model.state_dict()[name]), name

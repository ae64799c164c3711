"""Language models: whole runs, by the commands."""

import math
import shlex
import sys
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq_cli import eval_lm
from training import (
    PLUGIN,
    TRAIN_FLAGS,
    TRAIN_FLAGS_BUT_CRITERION,
    assert_same_model,
    binarize_source,
    load,
    train,
    write_corpus,
)

from b2t_cli.average import main as b2t_average
from b2t_cli.convert import main as b2t_convert
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.models.transformer_lm import B2TLanguageModel
from docs.build import summarize_lm

MODEL = shlex.split(
    f"--user-dir {shlex.quote(PLUGIN)} --task language_modeling --sample-break-mode eos "
    "--arch b2t_transformer_lm_small --decoder-embed-dim 16 --decoder-ffn-embed-dim 32"
)
SHARED = shlex.split("--layer-sharing cycle_rev --decoder-unique-layers 2")
BASIS = MODEL + TRAIN_FLAGS
ADAPTIVE = shlex.split(
    "--arch b2t_transformer_lm_wiki103 --decoder-layers 4 --decoder-attention-heads 4 "
    "--decoder-input-dim 16 --decoder-output-dim 16 --adaptive-input-cutoff 6,12 --adaptive-softmax-cutoff 6,12 "
    "--ddp-backend legacy_ddp --criterion adaptive_loss"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    write_corpus(folder)
    return binarize_source(folder)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The folder of a run of six updates, with checkpoints after three and six."""
    folder = tmp_path_factory.mktemp("run")
    flags = ("--max-update", "6", "--save-interval-updates", "3")
    train(data, folder, *SHARED, *flags, command=b2t_train, basis=BASIS)
    return folder


def perplexity(data, path, caplog, *flags):
    """Return the perplexity that fairseq-eval-lm prints."""
    caplog.clear()
    argv = [data, "--user-dir", PLUGIN, "--path", str(path), "--cpu", "--sample-break-mode", "eos", *flags]
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr(sys, "argv", ["fairseq-eval-lm", *argv])
        eval_lm.cli_main()
    return float(caplog.messages[-1].split("Perplexity: ")[1])


def test_perplexity_is_that_of_a_full_forward(data, run, caplog):
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(run / "checkpoint_last.pt")])
    assert type(models[0]).__name__ == "B2TLanguageModel"
    assert models[0].decoder.indices == [0, 1, 1, 0]
    task.load_dataset("test")
    dataset, total, count = task.dataset("test"), 0.0, 0
    for index in range(len(dataset)):
        item = dataset[index]
        with torch.no_grad():
            log_probs = torch.log_softmax(models[0].eval()(item["source"].unsqueeze(0))[0][0], dim=-1)
        total -= log_probs.gather(-1, item["target"].unsqueeze(-1)).sum().item()
        count += len(item["target"])
    assert len(dataset) == 21
    expected = math.exp(total / count)
    path = run / "checkpoint_last.pt"
    assert perplexity(data, path, caplog) == pytest.approx(expected, abs=0.006)


def test_resumed_run_equals_uninterrupted_run(data, run, tmp_path):
    train(data, tmp_path, *SHARED, "--max-update", "4", basis=BASIS)
    resumed = train(data, tmp_path, *SHARED, "--max-update", "6", basis=BASIS, command=b2t_train)
    assert_same_model(load(run / "checkpoint_last.pt"), resumed)


def test_an_average_is_the_mean_and_stays_tied(data, run, tmp_path, caplog, capsys):
    b2t_average([str(run), "--by", "updates", "--last", "2", "--output", str(tmp_path / "averaged.pt")])
    averaged = load(tmp_path / "averaged.pt")["model"]
    name = "decoder.layers.2.fc1.weight"
    parts = [load(file)["model"][name] for file in sorted(run.glob("checkpoint_*_*.pt"))]
    assert len(parts) == 2
    assert torch.allclose(averaged[name], sum(parts) / 2)
    assert averaged[name].data_ptr() == averaged["decoder.layers.1.fc1.weight"].data_ptr()
    assert perplexity(data, tmp_path / "averaged.pt", caplog) < 20


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([*SHARED, "--residual", "post_ln"], ["residual B2T there, Post-LN here"]),
        ([*SHARED, "--add-bos-token"], ["add_bos_token False there, True here"]),
        ([], ["decoder_unique_layers 2 there, None here", "layer_sharing cycle_rev there, none here"]),
    ],
    ids=["scheme", "task", "sharing"],
)
def test_folder_of_another_run_is_refused(data, run, flags, words):
    with pytest.raises(InputError) as error:
        train(data, run, *flags, "--max-update", "7", basis=BASIS, command=b2t_train)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("scheme", ["b2t", pytest.param("pre_ln", marks=pytest.mark.slow)])
def test_adaptive_inputs_and_softmax_train_with_shared_layers(data, tmp_path, caplog, scheme):
    """fairseq-train itself trains them, tied to each other."""
    flags = [*ADAPTIVE, *SHARED, "--residual", scheme, "--dropout", "0", "--max-update", "12"]
    state = train(data, tmp_path, *flags, basis=MODEL + TRAIN_FLAGS_BUT_CRITERION)
    assert ("decoder.layer_norm.weight" in state["model"]) == (scheme == "pre_ln")
    # The dictionary has 17 symbols.
    assert perplexity(data, tmp_path / "checkpoint_last.pt", caplog) < 16


@pytest.mark.parametrize(
    ("scheme", "flags"),
    [pytest.param("post_ln", [], marks=pytest.mark.slow), ("pre_ln", ["--decoder-normalize-before"])],
    ids=["post_ln", "pre_ln"],
)
def test_a_run_of_fairseqs_model_goes_on(data, tmp_path, scheme, flags):
    """It ends with the weights of a run that was this plugin's from the start."""
    sizes = ["--decoder-layers", "4", "--decoder-attention-heads", "4", "--share-decoder-input-output-embed"]
    stock = ["--arch", "transformer_lm", "--decoder-input-dim", "16", "--decoder-output-dim", "16"]
    train(data, tmp_path / "stock", *sizes, *stock, *flags, "--max-update", "2", basis=BASIS)
    ours = [*sizes, "--residual", scheme, "--kernels", "fairseq", "--max-update", "4"]
    resumed = train(data, tmp_path / "stock", *ours, basis=BASIS, command=b2t_train)
    assert_same_model(train(data, tmp_path / "ours", *ours, basis=BASIS), resumed)


def test_a_run_with_admin_writes_its_profile(data, tmp_path):
    flags = ["--residual", "admin", "--admin-profile", str(tmp_path / "profile"), "--max-update", "1"]
    state = train(data, tmp_path / "run", *SHARED, *flags, basis=BASIS, command=b2t_train)
    lines = (tmp_path / "profile").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, 9))
    assert state["model"]["decoder.layers.0.residual.profiled"] == 1


def test_help_shows_the_flags_of_the_architecture(capsys):
    b2t_train(["--help", "--arch", "b2t_transformer_lm_small"])
    text = capsys.readouterr().out
    assert "--adaptive-input " in text
    assert "--residual" in text
    assert "--encoder-layers" not in text


@pytest.mark.parametrize("scheme", ["post_ln", "b2t"])
def test_the_fused_criterion_gives_the_same_run(data, tmp_path, scheme):
    flags = ["--residual", scheme, "--max-update", "3", "--dropout", "0"]
    states = [
        train(data, tmp_path / name, *flags, "--criterion", name, basis=BASIS)
        for name in ("label_smoothed_cross_entropy", "label_smoothed_cross_entropy_fused")
    ]
    for state in states:
        # A bias of the keys adds the same to all scores of a query, so its gradient is zero, and Adam divides the
        # rounding errors that are there instead by their own size.
        for name in [name for name in state["model"] if name.endswith("k_proj.bias")]:
            del state["model"][name]
    assert_same_model(*states, tolerance=1e-5)


def test_from_pretrained_scores_a_line_as_a_full_forward(data, run):
    hub = B2TLanguageModel.from_pretrained(str(run), "checkpoint_last.pt", data)
    scored = hub.score("w1 w2 w3")
    model, dictionary = hub.models[0], hub.task.source_dictionary
    tokens = dictionary.encode_line("w1 w2 w3", add_if_not_exist=False).long()
    with torch.no_grad():
        log_probs = torch.log_softmax(model(torch.cat([tokens[-1:], tokens[:-1]]).unsqueeze(0))[0][0], dim=-1)
    expected = log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(scored["positional_scores"], expected[: len(scored["positional_scores"])], atol=1e-5)


def test_the_summary_has_the_perplexity_per_word(data, run):
    """docs/build/summarize_lm.py computes it from the perplexity per piece."""
    (run / "data.txt").write_text(data)
    text = Path(data).parent / "test.en"
    score = summarize_lm.evaluate(run, "test", text)
    # In this corpus each word is one piece.
    assert score.pieces == score.words == len(text.read_text().split()) + 21
    assert score.per_word() == pytest.approx(score.per_piece())
    assert 1 < score.per_word() < 20
    with pytest.raises(ValueError, match="has 21 lines as test, but"):
        summarize_lm.evaluate(run, "test", text.with_name("valid.en"))


@pytest.mark.parametrize("target", ["stock", "safetensors"])
def test_conversion_of_a_language_model_is_refused(run, tmp_path, capsys, target):
    with pytest.raises(InputError, match="of the model b2t_transformer_lm_small; only translation models"):
        b2t_convert([str(run / "checkpoint_last.pt"), str(tmp_path / "converted"), "--to", target])
    assert not list(tmp_path.iterdir())

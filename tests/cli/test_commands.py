"""fairseq's commands and ours work on a trained model as users type them."""

import argparse
import re
import shlex
import sys

import pytest
import torch
from commands import run
from fairseq_cli import generate
from training import MODEL_FLAGS, PLUGIN, SHARED, load, train

from b2t_cli import main as b2t
from b2t_cli.generate import main as b2t_generate
from b2t_cli.runs.averaging import average
from b2t_cli.runs.selection import last_checkpoints
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints
from b2t_fairseq.models.transformer import B2TTransformerModel


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder of a run of four epochs with shared layers."""
    folder = tmp_path_factory.mktemp("trained")
    train(data, folder, *SHARED, "--max-epoch", "4", "--fp16-scale-window", "7")
    return folder


@pytest.fixture
def generated(data, trained, monkeypatch, capsys):
    """Return a function that runs fairseq-generate in this process and returns what it prints."""

    def run(*flags):
        argv = ["fairseq-generate", data, "--user-dir", PLUGIN, "--path", str(trained / "checkpoint_last.pt")]
        argv += shlex.split("--beam 4 --required-batch-size-multiple 1 --cpu --max-len-b 20")
        monkeypatch.setattr(sys, "argv", [*argv, *flags])
        capsys.readouterr()
        generate.cli_main()
        return capsys.readouterr().out

    return run


def best(output):
    """Return the translations in the output of fairseq-generate, by the sentence's number."""
    lines = [line.split("\t") for line in output.splitlines() if line.startswith("D-")]
    return {int(fields[0][2:]): fields[2] for fields in lines}


def test_generate_interactive_and_from_pretrained_agree(corpus, data, trained, generated):
    translations = best(generated())
    assert sorted(translations) == list(range(21))
    assert len(set(translations.values())) > 4
    sources = (corpus / "test.en").read_text().splitlines()
    flags = ["--user-dir", PLUGIN, "--path", str(trained / "checkpoint_last.pt"), "--input", str(corpus / "test.en")]
    result = run("fairseq-interactive", data, *flags, "--beam", "4", "--cpu", "--max-len-b", "20")
    assert best(result.stdout) == translations
    model = B2TTransformerModel.from_pretrained(str(trained), "checkpoint_last.pt", data_name_or_path=data)
    assert model.translate(sources, beam=4, max_len_b=20) == [translations[i] for i in range(21)]


def test_b2t_generate_is_fairseq_generate_for_several_sets(data, trained, tmp_path, generated):
    """Each set has a file with what fairseq-generate prints; if one fails late, the files of those before it stay."""
    flags = [data, "--path", str(trained / "checkpoint_last.pt"), "--beam", "4", "--cpu"]
    # A process that loads data would take five seconds to end.
    flags += ["--required-batch-size-multiple", "1", "--max-len-b", "20", "--num-workers", "0"]
    results = ["--results-path", str(tmp_path / "results")]
    with pytest.raises(InputError, match="has no data named nowhere"):
        b2t_generate([*flags, *results, "--gen-subset", "test,nowhere"])
    assert not (tmp_path / "results").exists()
    # there are files of this name, which are no data
    with pytest.raises(FileNotFoundError, match="dict"):
        b2t_generate([*flags, *results, "--gen-subset", "test,valid,dict", "--subset-lenpen", "valid=3"])
    files = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    assert sorted(files) == ["generate-test.txt", "generate-valid.txt"]
    assert len(best(files["generate-test.txt"])) == 21
    expected = generated("--gen-subset", "valid", "--lenpen", "3")
    assert best(files["generate-valid.txt"]) == best(expected)
    assert "'lenpen': 1," in files["generate-test.txt"].replace("1.0,", "1,")


@pytest.mark.parametrize(
    ("value", "message"),
    [("valid=3", "--gen-subset has only test"), ("test", "give SUBSET=NUMBER"), ("=x", "=x: give")],
)
def test_wrong_length_penalties_are_refused(value, message):
    with pytest.raises(InputError, match=message):
        b2t_generate(["data", "--path", "model.pt", "--subset-lenpen", value])


def test_batching_does_not_change_translations(generated):
    outputs = [best(generated("--batch-size", n)) for n in ("1", "8")]
    assert outputs[0] == outputs[1]


def test_validate_gives_the_loss_of_training(data, trained):
    flags = ["--user-dir", PLUGIN, "--path", str(trained / "checkpoint_last.pt")]
    flags += shlex.split("--task translation --cpu --max-tokens 160 --required-batch-size-multiple 1 --log-format json")
    result = run("fairseq-validate", data, *flags)
    expected = load(trained / "checkpoint_last.pt")["extra_state"]["val_loss"]
    loss = re.search(r'"valid_loss": "([0-9.]+)"', result.stdout)
    assert float(loss.group(1)) == pytest.approx(expected, abs=1e-3)


def test_pruned_layers_keep_their_parameter_sets(data, trained):
    """Layers with the sets 0 1 1 0, of which layers 0, 2 and 3 are kept, have the sets 0 1 0."""
    model = B2TTransformerModel.from_pretrained(
        str(trained),
        "checkpoint_last.pt",
        data_name_or_path=data,
        encoder_layers_to_keep="0,2,3",
        decoder_layers_to_keep="0,1,2,3",
    ).models[0]
    whole = load(trained / "checkpoint_last.pt")["model"]
    assert model.encoder.indices == [0, 1, 0]
    for depth, original in enumerate((0, 2, 3)):
        weight = model.encoder.layers[depth].fc1.weight
        assert torch.equal(weight, whole[f"encoder.layers.{original}.fc1.weight"])


def test_average_is_the_mean_and_stays_tied(trained, tmp_path, capsys):
    output = tmp_path / "averaged.pt"
    assert b2t(["average", str(trained), "--last", "3", "--output", str(output)]) == 0
    assert "checkpoint2.pt to checkpoint4.pt" in capsys.readouterr().out
    models = [load(trained / f"checkpoint{epoch}.pt")["model"] for epoch in (2, 3, 4)]
    averaged = load(output)
    for name, tensor in averaged["model"].items():
        mean = sum(model[name].double() for model in models) / 3
        assert tensor.dtype == models[0][name].dtype
        assert (tensor - mean).abs().max() < 1e-6 if tensor.numel() else True
    pointers = {name: tensor.data_ptr() for name, tensor in averaged["model"].items()}
    assert pointers["encoder.layers.0.fc1.weight"] == pointers["encoder.layers.3.fc1.weight"]
    assert pointers["encoder.layers.0.fc1.weight"] != pointers["encoder.layers.1.fc1.weight"]
    assert averaged["last_optimizer_state"] is None


def test_average_ties_what_half_precision_untied(trained, tmp_path):
    """Such files store a tied tensor once for each layer; their average stores it once."""
    files = []
    for epoch in (3, 4):
        state = load(trained / f"checkpoint{epoch}.pt")
        state["model"] = {name: tensor.half().float() for name, tensor in state["model"].items()}
        files.append(tmp_path / f"checkpoint{epoch}.pt")
        torch.save(state, files[-1])
    averaged = average(files)["model"]
    distinct = {tensor.data_ptr() for tensor in averaged.values() if tensor.numel() > 1}
    tied = load(trained / "checkpoint4.pt")["model"]
    assert len(distinct) == len({tensor.data_ptr() for tensor in tied.values() if tensor.numel() > 1})


def test_average_separates_what_was_equal_at_first(tmp_path):
    """Parameters such as new biases are equal in the first checkpoint but not tied; each gets its own mean."""
    for number, (a, b) in enumerate([(0.0, 0.0), (1.0, 3.0)], start=1):
        model = {"a": torch.full((2,), a), "b": torch.full((2,), b)}
        torch.save({"model": model, "cfg": {"model": {}}}, tmp_path / f"checkpoint{number}.pt")
    averaged = average(last_checkpoints(tmp_path, 2))["model"]
    assert averaged["a"].tolist() == [0.5, 0.5]
    assert averaged["b"].tolist() == [1.5, 1.5]


def test_average_refuses_mixed_models_and_missing_files(trained, tmp_path, capsys):
    other = load(trained / "checkpoint4.pt")
    other["cfg"]["model"]["residual"] = "post_ln"
    torch.save(other, tmp_path / "other.pt")
    files = [str(trained / "checkpoint4.pt"), str(tmp_path / "other.pt")]
    assert b2t(["average", *files, "--output", str(tmp_path / "x.pt")]) == 1
    assert "residual is Post-LN there and B2T in the first" in capsys.readouterr().err
    assert b2t(["average", str(trained), "--last", "9", "--output", str(tmp_path / "x.pt")]) == 1
    assert "has 4 checkpoints by epochs, not 9" in capsys.readouterr().err
    assert b2t(["average", *files, "--last", "2", "--output", str(tmp_path / "x.pt")]) == 1
    assert "--last 2 chooses from one folder" in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()
    assert b2t(["average", files[0], "--output", str(tmp_path / "nowhere/x.pt")]) == 1
    assert f"there is no folder {tmp_path}/nowhere" in capsys.readouterr().err


def test_an_averaged_checkpoint_translates_every_sentence(trained, tmp_path, generated):
    output = tmp_path / "averaged.pt"
    checkpoints.save(average(last_checkpoints(trained, 2)), output)
    assert len(best(generated("--path", str(output)))) == 21


def test_b2t_score_reads_what_fairseq_generate_writes(corpus, tmp_path, generated, capsys):
    """It puts translations in order, gives sacreBLEU's score, and misses a translation that is not there."""
    output = tmp_path / "generated.txt"
    output.write_text(generated())
    hypotheses = tmp_path / "hypotheses.de"
    flags = ["--reference", str(corpus / "test.de"), "--output", str(hypotheses)]
    assert b2t(["score", str(output), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    translations = best(output.read_text())
    assert hypotheses.read_text().splitlines() == [translations[i] for i in range(21)]
    sacrebleu = run("sacrebleu", str(corpus / "test.de"), "-i", str(hypotheses), "-m", "bleu", "-b", "-w", "2")
    assert lines[0].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert lines[0].endswith(f" = {sacrebleu.stdout.strip()}")
    assert lines[1].startswith("chrF2|")
    output.write_text("\n".join(line for line in output.read_text().splitlines() if "-7\t" not in line))
    assert b2t(["score", str(output), *flags]) == 1
    message = capsys.readouterr().err
    assert "20 translations for 21 references; missing sentences: 7" in message
    assert "--required-batch-size-multiple 1" in message


def test_path_version_and_usage(capsys):
    """``b2t path`` prints the plugin's folder; an unknown command is an error that repeats it."""
    assert b2t(["path"]) == 0
    assert capsys.readouterr().out.strip() == PLUGIN
    assert b2t([]) == 2
    assert b2t(["--version"]) == 0
    assert "b2t_fairseq 0" in capsys.readouterr().out
    assert b2t(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err


def test_train_adds_the_plugin_itself(data, tmp_path):
    flags = [flag for flag in MODEL_FLAGS if flag not in ("--user-dir", PLUGIN)]
    flags += shlex.split("--max-tokens 160 --cpu --max-update 1 --lr 0.001 --optimizer adam")
    result = run("b2t", "train", data, *flags, "--save-dir", str(tmp_path))
    assert "--residual b2t --layer-sharing none; parameter sets: encoder 0 1 2 3" in result.stdout
    assert " | INFO | fairseq_cli.train | " in result.stdout
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_finished_run_is_left_alone(data, tmp_path, capsys):
    flags = ["--max-update", "2", "--dropout", "0"]
    train(data, tmp_path, *flags, command=b2t_train)
    before = (tmp_path / "checkpoint_last.pt").read_bytes()
    train(data, tmp_path, *flags, command=b2t_train)
    assert "has its 2 updates: nothing to do" in capsys.readouterr().out
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == before


def test_help_shows_our_flags_and_fairseqs(capsys):
    assert b2t(["train", "--arch", "b2t_transformer", "--help"]) == 0
    usage = capsys.readouterr().out
    for flag in ("--residual", "--layer-sharing", "--encoder-unique-layers", "--depth-scaled-init", "--encoder-layers"):
        assert flag in usage


def test_missing_arguments_and_files_are_errors(capsys, tmp_path):
    assert b2t(["train", "data"]) == 1
    assert "--arch is missing" in capsys.readouterr().err
    assert b2t(["score", str(tmp_path / "none"), "--reference", str(tmp_path / "none")]) == 1
    assert f"no such file or folder: {tmp_path}/none" in capsys.readouterr().err


def test_a_checkpoint_of_older_fairseq_loads(data, trained, tmp_path):
    """It has an argparse.Namespace, which is all that loading with weights_only allows beside tensors."""
    state = load(trained / "checkpoint4.pt")
    model = state["cfg"]["model"]
    state["args"] = argparse.Namespace(**{**model, "task": "translation", "arch": model["_name"], "data": data})
    state["args"].source_lang, state["args"].target_lang, state["args"].optimizer = "en", "de", "adam"
    state["args"].criterion, state["args"].lr_scheduler, state["args"].lr = "cross_entropy", "fixed", [0.1]
    state["cfg"] = None
    torch.save(state, tmp_path / "old.pt")
    assert checkpoints.model_settings(checkpoints.load(tmp_path / "old.pt"))["residual"] == "b2t"
    B2TTransformerModel.from_pretrained(str(tmp_path), "old.pt", data_name_or_path=data)

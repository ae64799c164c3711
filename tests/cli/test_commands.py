"""fairseq's commands and ours on a trained model, as users type them."""

import argparse
import re
import sys

import pytest
import torch
from commands import run
from fairseq_cli import generate
from training import MODEL_FLAGS, PLUGIN, SHARED, binarize, load, train, write_corpus

from b2t_cli import main as b2t
from b2t_cli.generate import main as b2t_generate
from b2t_cli.runs.averaging import average, last_checkpoints
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints
from b2t_fairseq.models.transformer import B2TTransformerModel


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A corpus and a run of four epochs with cycle_rev sharing."""
    folder = tmp_path_factory.mktemp("trained")
    write_corpus(folder)
    data = binarize(folder)
    train(data, folder / "run", *SHARED, "--max-epoch", "4", "--fp16-scale-window", "7")
    return folder


def in_process(command, *argv, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fairseq", *argv])
    capsys.readouterr()
    command()
    return capsys.readouterr().out


def generated(trained, monkeypatch, capsys, *flags):
    return in_process(
        generate.cli_main,
        *(str(trained / "bin"), "--user-dir", PLUGIN, "--path", str(trained / "run/checkpoint_last.pt")),
        *("--beam", "4", "--required-batch-size-multiple", "1", "--cpu", "--max-len-b", "20", *flags),
        monkeypatch=monkeypatch,
        capsys=capsys,
    )


def best(output):
    """Return the translations by sentence number."""
    lines = [line.split("\t") for line in output.splitlines() if line.startswith("D-")]
    return {int(fields[0][2:]): fields[2] for fields in lines}


def test_generate_interactive_and_from_pretrained_agree(trained, monkeypatch, capsys):
    translations = best(generated(trained, monkeypatch, capsys))
    assert sorted(translations) == list(range(21))
    assert len(set(translations.values())) > 4
    sources = (trained / "test.en").read_text().splitlines()
    result = run(
        "fairseq-interactive",
        *(str(trained / "bin"), "--user-dir", PLUGIN, "--path", str(trained / "run/checkpoint_last.pt")),
        *("--beam", "4", "--cpu", "--max-len-b", "20", "--input", str(trained / "test.en")),
    )
    assert best(result.stdout) == translations
    model = B2TTransformerModel.from_pretrained(
        str(trained / "run"), "checkpoint_last.pt", data_name_or_path=str(trained / "bin")
    )
    assert model.translate(sources, beam=4, max_len_b=20) == [translations[i] for i in range(21)]


def test_b2t_generate_is_fairseq_generate_for_several_sets(trained, tmp_path, monkeypatch, capsys):
    """Each set's file has what fairseq-generate prints for it; a set that fails leaves none, those before it stay."""
    flags = [str(trained / "bin"), "--path", str(trained / "run/checkpoint_last.pt"), "--beam", "4", "--cpu"]
    # a process that loads data takes five seconds to end
    flags += ["--required-batch-size-multiple", "1", "--max-len-b", "20", "--num-workers", "0"]
    results = ["--results-path", str(tmp_path / "results")]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        b2t_generate([*flags, *results, "--gen-subset", "test,valid,nowhere", "--subset-lenpen", "valid=3"])
    files = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    assert sorted(files) == ["generate-test.txt", "generate-valid.txt"]
    assert len(best(files["generate-test.txt"])) == 21
    expected = generated(trained, monkeypatch, capsys, "--gen-subset", "valid", "--lenpen", "3")
    assert best(files["generate-valid.txt"]) == best(expected)
    assert "'lenpen': 1," in files["generate-test.txt"].replace("1.0,", "1,")


@pytest.mark.parametrize(
    ("value", "message"),
    [("valid=3", "--gen-subset has only test"), ("test", "give SUBSET=NUMBER"), ("=x", "=x: give")],
)
def test_wrong_length_penalties(value, message):
    with pytest.raises(InputError, match=message):
        b2t_generate(["data", "--path", "model.pt", "--subset-lenpen", value])


def test_batching_does_not_change_translations(trained, monkeypatch, capsys):
    outputs = [best(generated(trained, monkeypatch, capsys, "--batch-size", n)) for n in ("1", "8")]
    assert outputs[0] == outputs[1]


def test_validate_gives_the_loss_of_training(trained):
    result = run(
        "fairseq-validate",
        *(str(trained / "bin"), "--task", "translation", "--user-dir", PLUGIN, "--cpu", "--max-tokens", "160"),
        *("--path", str(trained / "run/checkpoint_last.pt"), "--required-batch-size-multiple", "1"),
        *("--log-format", "json"),
    )
    expected = load(trained / "run/checkpoint_last.pt")["extra_state"]["val_loss"]
    found = re.search(r'"valid_loss": "([0-9.]+)"', result.stdout)
    assert float(found.group(1)) == pytest.approx(expected, abs=1e-3)


def test_pruned_layers_keep_their_parameter_sets(trained):
    """--encoder-layers-to-keep of a shared model: layers 0 1 1 0 pruned to 0, 2, 3 use the sets 0 1 0."""
    model = B2TTransformerModel.from_pretrained(
        str(trained / "run"),
        "checkpoint_last.pt",
        data_name_or_path=str(trained / "bin"),
        encoder_layers_to_keep="0,2,3",
        decoder_layers_to_keep="0,1,2,3",
    ).models[0]
    whole = load(trained / "run/checkpoint_last.pt")["model"]
    assert model.encoder.indices == [0, 1, 0]
    for depth, original in enumerate((0, 2, 3)):
        weight = model.encoder.layers[depth].fc1.weight
        assert torch.equal(weight, whole[f"encoder.layers.{original}.fc1.weight"])


def test_average_is_the_mean_and_stays_tied(trained, tmp_path, capsys):
    output = tmp_path / "averaged.pt"
    assert b2t(["average", str(trained / "run"), "--last", "3", "--output", str(output)]) == 0
    assert "checkpoint2.pt to checkpoint4.pt" in capsys.readouterr().out
    models = [load(trained / f"run/checkpoint{epoch}.pt")["model"] for epoch in (2, 3, 4)]
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
    """Files that store each tied tensor once per layer are averaged into one that stores it once."""
    files = []
    for epoch in (3, 4):
        state = load(trained / f"run/checkpoint{epoch}.pt")
        state["model"] = {name: tensor.half().float() for name, tensor in state["model"].items()}
        files.append(tmp_path / f"checkpoint{epoch}.pt")
        torch.save(state, files[-1])
    averaged = average(files)["model"]
    distinct = {tensor.data_ptr() for tensor in averaged.values() if tensor.numel() > 1}
    tied = load(trained / "run/checkpoint4.pt")["model"]
    assert len(distinct) == len({tensor.data_ptr() for tensor in tied.values() if tensor.numel() > 1})


def test_average_separates_what_was_equal_at_first(tmp_path):
    """Equal in the first checkpoint (fresh biases, say) but not tied: each gets its own mean."""
    for number, (a, b) in enumerate([(0.0, 0.0), (1.0, 3.0)], start=1):
        model = {"a": torch.full((2,), a), "b": torch.full((2,), b)}
        torch.save({"model": model, "cfg": {"model": {}}}, tmp_path / f"checkpoint{number}.pt")
    averaged = average(last_checkpoints(tmp_path, 2))["model"]
    assert averaged["a"].tolist() == [0.5, 0.5]
    assert averaged["b"].tolist() == [1.5, 1.5]


def test_average_refuses_mixed_models_and_missing_files(trained, tmp_path, capsys):
    other = load(trained / "run/checkpoint4.pt")
    other["cfg"]["model"]["residual"] = "post_ln"
    torch.save(other, tmp_path / "other.pt")
    files = [str(trained / "run/checkpoint4.pt"), str(tmp_path / "other.pt")]
    assert b2t(["average", *files, "--output", str(tmp_path / "x.pt")]) == 1
    assert "residual is Post-LN there and B2T in the first" in capsys.readouterr().err
    assert b2t(["average", str(trained / "run"), "--last", "9", "--output", str(tmp_path / "x.pt")]) == 1
    assert "has 4 checkpoints by epochs, not 9" in capsys.readouterr().err
    assert b2t(["average", *files, "--last", "2", "--output", str(tmp_path / "x.pt")]) == 1
    assert "--last 2 chooses from one folder" in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()
    assert b2t(["average", files[0], "--output", str(tmp_path / "nowhere/x.pt")]) == 1
    assert f"there is no folder {tmp_path}/nowhere" in capsys.readouterr().err


def test_averaged_checkpoint_translates(trained, tmp_path, monkeypatch, capsys):
    output = tmp_path / "averaged.pt"
    checkpoints.save(average(last_checkpoints(trained / "run", 2)), output)
    assert len(best(generated(trained, monkeypatch, capsys, "--path", str(output)))) == 21


def test_score(trained, tmp_path, monkeypatch, capsys):
    output = tmp_path / "generated.txt"
    output.write_text(generated(trained, monkeypatch, capsys))
    hypotheses = tmp_path / "hypotheses.de"
    flags = ["--reference", str(trained / "test.de"), "--output", str(hypotheses)]
    assert b2t(["score", str(output), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    translations = best(output.read_text())
    assert hypotheses.read_text().splitlines() == [translations[i] for i in range(21)]
    sacrebleu = run("sacrebleu", str(trained / "test.de"), "-i", str(hypotheses), "-m", "bleu", "-b", "-w", "2")
    assert lines[0].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert lines[0].endswith(f" = {sacrebleu.stdout.strip()}")
    assert lines[1].startswith("chrF2|")
    output.write_text("\n".join(line for line in output.read_text().splitlines() if "-7\t" not in line))
    assert b2t(["score", str(output), *flags]) == 1
    message = capsys.readouterr().err
    assert "20 translations for 21 references; missing sentences: 7" in message
    assert "--required-batch-size-multiple 1" in message


def test_path_and_usage(capsys):
    assert b2t(["path"]) == 0
    assert capsys.readouterr().out.strip() == PLUGIN
    assert b2t([]) == 2
    assert b2t(["--version"]) == 0
    assert "b2t_fairseq 0" in capsys.readouterr().out
    assert b2t(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err


def test_train_adds_the_plugin_itself(trained, tmp_path):
    flags = [flag for flag in MODEL_FLAGS if flag not in ("--user-dir", PLUGIN)]
    result = run("b2t", "train", str(trained / "bin"), *flags, "--max-tokens", "160", "--cpu", "--max-update", "1",
                 "--save-dir", str(tmp_path), "--lr", "0.001", "--optimizer", "adam")  # fmt: skip
    assert "--residual b2t --layer-sharing none; parameter sets: encoder 0 1 2 3" in result.stdout
    assert " | INFO | fairseq_cli.train | " in result.stdout
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_finished_run_is_left_alone(trained, tmp_path, capsys):
    flags = ["--max-update", "2", "--dropout", "0"]
    train(str(trained / "bin"), tmp_path, *flags, command=b2t_train)
    before = (tmp_path / "checkpoint_last.pt").read_bytes()
    train(str(trained / "bin"), tmp_path, *flags, command=b2t_train)
    assert "has its 2 updates: nothing to do" in capsys.readouterr().out
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == before


def test_train_explains_itself(capsys, tmp_path):
    assert b2t(["train", "--arch", "b2t_transformer", "--help"]) == 0
    usage = capsys.readouterr().out
    for flag in ("--residual", "--layer-sharing", "--encoder-unique-layers", "--depth-scaled-init", "--encoder-layers"):
        assert flag in usage
    assert b2t(["train", "data"]) == 1
    assert "--arch is missing" in capsys.readouterr().err
    assert b2t(["score", str(tmp_path / "none"), "--reference", str(tmp_path / "none")]) == 1
    assert f"no such file or folder: {tmp_path}/none" in capsys.readouterr().err


def test_namespace_checkpoint_loads(trained, tmp_path):
    """Older fairseq stores an argparse.Namespace; weights_only loading allows exactly that."""
    state = load(trained / "run/checkpoint4.pt")
    model = state["cfg"]["model"]
    state["args"] = argparse.Namespace(
        **{**model, "task": "translation", "arch": model["_name"], "data": str(trained / "bin")}
    )
    state["args"].source_lang, state["args"].target_lang, state["args"].optimizer = "en", "de", "adam"
    state["args"].criterion, state["args"].lr_scheduler, state["args"].lr = "cross_entropy", "fixed", [0.1]
    state["cfg"] = None
    torch.save(state, tmp_path / "old.pt")
    assert checkpoints.model_settings(checkpoints.load(tmp_path / "old.pt"))["residual"] == "b2t"
    B2TTransformerModel.from_pretrained(str(tmp_path), "old.pt", data_name_or_path=str(trained / "bin"))

"""A model that is loaded needs no files of a fresh one, and it must be loaded with the dictionaries of its training."""

import re

import pytest
import torch
from fairseq import checkpoint_utils
from helpers import make_dictionary, make_model, make_task, randomize
from speech import make_speech_model
from training import binarize, load, train, write_corpus

from b2t_cli import main as b2t
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("named")
    write_corpus(folder)
    binarize(folder)
    return folder


@pytest.fixture
def embeddings(corpus, tmp_path):
    """A file of embeddings for half of the words."""
    words = [line.split()[0] for line in (corpus / "bin/dict.en.txt").read_text().splitlines()][:8]
    lines = [f"{len(words)} 16", *(f"{word} {' '.join([f'0.{n + 1}'] * 16)}" for n, word in enumerate(words))]
    path = tmp_path / "emb.vec"
    path.write_text("\n".join(lines) + "\n")
    return path


class TestEmbeddings:
    def flags(self, embeddings):
        return ["--encoder-embed-path", str(embeddings), "--decoder-embed-path", str(embeddings)]

    def test_a_run_goes_on_and_translates_without_the_file(self, corpus, embeddings, tmp_path, capsys):
        """The run that continues ends with the weights of one that had the file to its end."""
        data, flags = str(corpus / "bin"), self.flags(embeddings)
        whole = train(data, tmp_path / "whole", *flags, "--max-update", "6", command=b2t_train)
        train(data, tmp_path / "run", *flags, "--max-update", "3", command=b2t_train)
        embeddings.unlink()
        resumed = train(data, tmp_path / "run", *flags, "--max-update", "6", command=b2t_train)
        for name, tensor in whole["model"].items():
            assert torch.equal(tensor, resumed["model"][name]), name
        path = str(tmp_path / "run/checkpoint_last.pt")
        flags = ["--path", path, "--cpu", "--required-batch-size-multiple", "1", "--num-workers", "0"]
        assert b2t(["generate", data, *flags]) == 0
        assert len(re.findall(r"^H-", capsys.readouterr().out, re.MULTILINE)) == 21

    def test_a_fresh_run_needs_the_file(self, corpus, embeddings, tmp_path):
        embeddings.unlink()
        with pytest.raises(InputError, match=r"--encoder-embed-path .*emb.vec: no such file"):
            train(str(corpus / "bin"), tmp_path / "run", *self.flags(embeddings), "--max-update", "2")
        assert not list((tmp_path / "run").glob("*.pt"))


def test_a_speech_model_that_is_loaded_does_not_need_its_pretrained_encoder():
    fresh = make_speech_model(load_pretrained_encoder_from="nowhere.pt")
    assert fresh.unread_files == {"--load-pretrained-encoder-from": "nowhere.pt"}
    fresh.load_state_dict(make_speech_model().state_dict())
    assert not fresh.unread_files


class TestDictionaries:
    def reordered(self):
        dictionary = make_dictionary()
        dictionary.symbols[-2:] = dictionary.symbols[:-3:-1]
        dictionary.indices = {symbol: index for index, symbol in enumerate(dictionary.symbols)}
        task = make_task()
        task.source_dictionary = task.target_dictionary = dictionary
        return task

    def test_other_words_of_the_same_number_are_refused(self):
        state = randomize(make_model()).state_dict()
        with pytest.raises(InputError, match="encoder was trained with another dictionary of 24 symbols"):
            make_model(task=self.reordered()).load_state_dict(state)
        make_model().load_state_dict(state)

    def test_another_number_of_words_is_refused_in_one_line(self):
        with pytest.raises(InputError) as error:
            make_model(task=make_task(12)).load_state_dict(make_model().state_dict())
        assert str(error.value).startswith(
            "the checkpoint's encoder was trained with 24 symbols, but the dictionary here has 16: give the data"
        )
        assert "\n" not in str(error.value)

    def test_a_checkpoint_from_before_goes_by_its_size(self):
        state = make_model().state_dict()
        for entry in state._metadata.values():
            entry.pop("dictionary", None)
        make_model(task=self.reordered()).load_state_dict(state)

    def test_no_command_takes_other_data(self, corpus, tmp_path, capsys):
        """Neither continuing a run nor translating nor fine-tuning does, and the run's checkpoint stays as it is."""
        folder = tmp_path / "run"
        train(str(corpus / "bin"), folder, "--max-update", "2")
        before = (folder / "checkpoint_last.pt").read_bytes()
        other = tmp_path / "other"
        other.mkdir()
        for path in (corpus / "bin").iterdir():
            (other / path.name).write_bytes(path.read_bytes())
        for name in ("dict.en.txt", "dict.de.txt"):
            first, second, *rest = (other / name).read_text().splitlines()
            (other / name).write_text("\n".join([second, first, *rest]) + "\n")
        message = "was trained with another dictionary of"
        with pytest.raises(InputError, match=message):
            train(str(other), folder, "--max-update", "4")
        path = str(folder / "checkpoint_last.pt")
        with pytest.raises(InputError, match=message):
            train(str(other), tmp_path / "tuned", "--finetune-from-model", path, "--max-update", "2")
        assert b2t(["generate", str(other), "--path", path, "--cpu"]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert line.startswith("b2t generate: error: ")
        assert message in line
        with pytest.raises(InputError, match=message):
            checkpoint_utils.load_model_ensemble_and_task([path], arg_overrides={"data": str(other)})
        assert (folder / "checkpoint_last.pt").read_bytes() == before
        assert load(folder / "checkpoint_last.pt")["model"]._metadata["encoder"]["dictionary"]

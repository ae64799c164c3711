"""COMET: refused before anything runs where something is missing, and with a small model the library's own numbers."""

import importlib.util
import re

import pytest
import torch
from scoring import make_run, scores
from tiny_comet import write_comet

from b2t_cli import main as b2t
from b2t_cli.scoring import comet
from b2t_common.errors import InputError

SENTENCES = [["ab cd", "ab ce", "ab cd", "xy"], ["a", "b c", "d e f", "g"]]
SOURCES = ["cd ef", "z"]


class StandIn:
    """What ``Comet`` asks of a model, with embeddings and scores that can be computed by hand."""

    device = torch.device("cpu")

    def __init__(self):
        self.encoder = self
        self.encoded = []

    def eval(self):
        return self

    def requires_references(self):
        return True

    def prepare_sample(self, texts):
        self.encoded += texts
        return {"input_ids": torch.tensor([[float(len(text)), float(len(set(text)))] for text in texts])}

    def get_sentence_embedding(self, input_ids):
        return input_ids

    def estimate(self, source, hypothesis, reference):
        return {"score": pair_score(source, hypothesis, reference)}

    def predict(self, samples, **settings):
        return {"system_score": sum(len(sample["mt"]) for sample in samples) / len(samples)}


def pair_score(source, hypothesis, reference):
    return 1 / (1 + (hypothesis - reference).abs().sum(-1)) + 0.1 * (hypothesis * source).sum(-1)


def embedding(text):
    return torch.tensor([float(len(text)), float(len(set(text)))])


def test_expected_utilities_are_means_over_all_candidates():
    """Each different text is encoded once, and one that was drawn twice counts twice."""
    model = StandIn()
    results = list(comet.Comet(model, "stand-in").expected_utilities(SOURCES, SENTENCES))
    for source, candidates, result in zip(SOURCES, SENTENCES, results, strict=True):
        expected = [
            sum(pair_score(*map(embedding, (source, h, r))).item() for r in candidates) / len(candidates)
            for h in candidates
        ]
        assert result == pytest.approx(expected, rel=1e-5)
    assert len(model.encoded) == len(SOURCES) + 3 + 4


def test_scores_of_a_run_have_the_models_name_and_the_librarys_version(sacrebleu_cache, tmp_path, monkeypatch, capsys):
    folder = make_run(tmp_path / "run", 1, ["newstest2014"])
    monkeypatch.setattr(comet, "require", lambda: None)
    monkeypatch.setattr(comet, "load", lambda name: comet.Comet(StandIn(), name))
    assert b2t(["score", "run", "--comet", "some/model"]) == 0
    result = scores(folder)["sets"]["newstest2014"]["metrics"]["COMET"]
    assert result["signature"].startswith("model:some/model|version:")
    printed = capsys.readouterr().out
    assert f"COMET|{result['signature']} on wmt14/full" in printed
    assert re.search(rf"COMET x100 .* {100 * result['score']:.2f}", printed)


def test_a_missing_library_is_refused_before_anything_is_done(tmp_path, monkeypatch, capsys):
    """No file is read yet: there are none."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "comet" else found(name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for command in (["score", "run", "--comet"], ["mbr", "no.txt", "--utility", "comet", "--output", "out"]):
        assert b2t(command) == 1
        message = capsys.readouterr().err
        assert "COMET needs comet" in message
        assert re.search(r"scripts/setup\.sh'? --comet", message), message


class TestLibrary:
    """The real library, with a small model."""

    @pytest.fixture(scope="class")
    def model(self, tmp_path_factory):
        return write_comet(tmp_path_factory.mktemp("models") / "tiny-comet")

    def test_mbr_takes_the_candidate_with_the_best_mean_score(self, model, tmp_path):
        """The library's own score of every pair says which one that is."""
        loaded = comet.load(model)
        assert re.fullmatch(r"model:tiny-comet\|version:\d+\.\d+\.\d+", loaded.signature)
        results = list(loaded.expected_utilities(SOURCES, SENTENCES))
        for source, candidates, result in zip(SOURCES, SENTENCES, results, strict=True):
            expected = [
                loaded.system_score([source] * len(candidates), [h] * len(candidates), candidates) for h in candidates
            ]
            assert result == pytest.approx(expected, abs=1e-5)
        (tmp_path / "source").write_text("".join(f"{line}\n" for line in SOURCES))
        lines = [f"D-{n}\t-1\t{text}\n" for n, candidates in enumerate(SENTENCES) for text in candidates]
        (tmp_path / "generated").write_text("".join(lines))
        command = ["mbr", str(tmp_path / "generated"), "--utility", "comet", "--comet-model", model]
        assert b2t([*command, "--source", str(tmp_path / "source"), "--output", str(tmp_path / "out")]) == 0
        best = [candidates[values.index(max(values))] for candidates, values in zip(SENTENCES, results, strict=True)]
        assert (tmp_path / "out").read_text().splitlines() == best

    def test_a_run_is_scored(self, model, sacrebleu_cache, tmp_path, capsys):
        folder = make_run(tmp_path / "run", 1, ["newstest2014"])
        assert b2t(["score", "run", "--comet", model]) == 0
        result = scores(folder)["sets"]["newstest2014"]["metrics"]["COMET"]
        assert result["signature"].startswith("model:tiny-comet|version:")
        assert f"{100 * result['score']:.2f}" in capsys.readouterr().out

    def test_a_model_that_cannot_be_fetched_is_refused(self, model, monkeypatch):
        """The message has the first cause; the library replaces it by one of its own."""

        def no_network(*args, **kwargs):
            raise OSError("no network here")

        def not_listed(*args, **kwargs):
            raise KeyError("not in the list of models")

        monkeypatch.setattr("comet.models.snapshot_download", no_network)
        monkeypatch.setattr("comet.models.download_model_legacy", not_listed)
        with pytest.raises(InputError, match=r"some/model is not here and could not be fetched \(no network here\)"):
            comet.load("some/model")

    def test_a_folder_without_a_model_is_refused(self, model, tmp_path):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints/model.ckpt").write_bytes(b"nothing")
        with pytest.raises(
            InputError, match=r"checkpoints/model\.ckpt cannot be loaded \(hparams.yaml file is missing"
        ):
            comet.load(str(tmp_path))

"""``b2t convert --to stock`` and ``--to safetensors``: other programs give this plugin's numbers."""

import json
import re
import sys

import pytest
import torch
from conversion import ADMIN, B2T, POST, PRE, SEQUENCE, convert, loaded, refused
from fairseq.sequence_generator import SequenceGenerator
from fairseq_cli import generate
from golden import Golden
from helpers import make_batch
from releases import REAL, decode, load_model, release_checkpoint, sentence_pairs
from training import SHARED, binarize, load, train, write_corpus

from b2t_cli.conversion import export
from b2t_common.errors import InputError

pytestmark = pytest.mark.usefixtures("settings_translated_once")


class TestStock:
    """Checkpoints of fairseq's own transformer, which CTranslate2 converts further."""

    @pytest.fixture(scope="class")
    def corpus(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("corpus")
        write_corpus(folder)
        binarize(folder)
        return folder

    def test_fairseqs_transformer_gives_the_same_logits_and_translations(self, corpus, tmp_path, monkeypatch, capsys):
        """fairseq-generate needs no flag of this plugin for it."""
        exact = ["--residual", "pre_ln", "--kernels", "fairseq"]
        train(str(corpus / "bin"), tmp_path, *SHARED, *exact, "--max-update", "3")
        original = tmp_path / "checkpoint_last.pt"
        stock = convert(original, tmp_path, "--to", "stock", output="stock.pt")
        assert "tokens are those of the plugin's model within" in capsys.readouterr().out
        state = load(stock)
        assert state["cfg"]["model"]._name == "transformer"
        assert not any(name.startswith(("residual", "layer_sharing")) for name in vars(state["cfg"]["model"]))
        models = [load_model(path, corpus / "bin")[0] for path in (original, stock)]
        assert type(models[1]).__module__.startswith("fairseq.models.transformer")
        dictionary = load_model(stock, corpus / "bin")[2].target_dictionary
        batch = make_batch(dictionary)
        with torch.no_grad():
            theirs, ours = (model(**batch["net_input"])[0] for model in models)
        assert torch.equal(theirs, ours)
        flags = ["--beam", "2", "--cpu", "--max-len-b", "20", "--num-workers", "0"]
        flags += ["--required-batch-size-multiple", "1"]
        outputs = []
        for path in (original, stock):
            monkeypatch.setattr(sys, "argv", ["g", str(corpus / "bin"), "--path", str(path), *flags])
            generate.cli_main()
            outputs.append(re.findall(r"^H-.*", capsys.readouterr().out, flags=re.MULTILINE))
        assert len(outputs[0]) == 21
        assert outputs[0] == outputs[1]

    def test_b2t_and_pruned_models_are_refused(self, tmp_path, capsys):
        plugin = convert(release_checkpoint(B2T), tmp_path, output="plugin.pt")
        message = refused(plugin, tmp_path, capsys, "--to", "stock")
        assert "--residual b2t cannot be written as fairseq's own transformer" in message
        assert "LN(layer_input + x + f(x)), it would translate wrongly; use fairseq-generate with this" in message
        plugin = convert(release_checkpoint(POST), tmp_path, output="plugin.pt")
        state = load(plugin)
        state["cfg"]["model"] |= {"encoder_layers_to_keep": "0,1,2", "decoder_layers_to_keep": "0,2"}
        torch.save(state, plugin)
        assert "layers-to-keep 0,1,2: pruned models" in refused(plugin, tmp_path, capsys, "--to", "stock")
        state["cfg"]["model"] = {"_name": "transformer", "encoder_layers": 3}
        torch.save(state, plugin)
        assert "it is of the model transformer, not of b2t" in refused(plugin, tmp_path, capsys, "--to", "stock")

    @pytest.mark.parametrize(("name", "flags"), [(SEQUENCE, ["--retie"]), (SEQUENCE, []), (PRE, [])])
    def test_ctranslate2_gives_the_same_translations_and_scores(self, name, flags, tmp_path):
        """Scores agree to 1e-4, those of its own search and those of given translations."""
        ctranslate2 = pytest.importorskip("ctranslate2")
        golden, model, _ = loaded(name, convert(release_checkpoint(name), tmp_path, "--to", "stock", *flags), tmp_path)
        assert type(model).__module__.startswith("fairseq.models.transformer")
        converter = ctranslate2.converters.FairseqConverter(str(tmp_path / "converted.pt"), str(tmp_path))
        converter.convert(str(tmp_path / "ctranslate2"))
        translator = ctranslate2.Translator(str(tmp_path / "ctranslate2"), intra_threads=1)
        batch, dictionary = golden.batch(), golden.dictionary
        words = [[dictionary[i] for i in row if i > 2] for row in batch["net_input"]["src_tokens"].tolist()]
        # CTranslate2's minimum length changes the probabilities, fairseq's only the search; so there is none.
        ours = translator.translate_batch(
            words, beam_size=1, length_penalty=0.6, min_decoding_length=0, max_decoding_length=13, return_scores=True
        )
        settings = {"max_len_a": 0, "max_len_b": 12, "min_len": 0, "len_penalty": 0.6}
        theirs = SequenceGenerator([model], dictionary, beam_size=1, **settings).generate([model], batch)
        for result, (best, *_) in zip(ours, theirs, strict=True):
            forced = best["tokens"].numel() == 13
            assert result.hypotheses[0][:12] == [dictionary[i] for i in best["tokens"][:-1]]
            assert forced or result.scores[0] == pytest.approx(best["score"].item(), abs=1e-4)
        # Then both score the same translations, whatever the search of each would find.
        theirs = SequenceGenerator([model], dictionary, beam_size=4, **settings).generate([model], batch)
        given = translator.score_batch(words, [[dictionary[i] for i in best["tokens"][:-1]] for best, *_ in theirs])
        for scores, (best, *_) in zip(given, theirs, strict=True):
            assert scores.log_probs == pytest.approx(best["positional_scores"].tolist(), abs=1e-4)


class TestSafetensors:
    @pytest.mark.parametrize(
        ("name", "flags"), [(SEQUENCE, ["--retie"]), (SEQUENCE, []), (B2T, []), (ADMIN, ["--retie"])]
    )
    def test_loads_into_the_same_model(self, name, flags, tmp_path):
        pytest.importorskip("safetensors")
        plugin = convert(release_checkpoint(name), tmp_path, *flags)
        convert(plugin, tmp_path, "--to", "safetensors", output="model.safetensors")
        assert {path.name for path in tmp_path.iterdir()} >= {"model.safetensors", "model.json"}
        model = export.load(tmp_path / "model")
        state = load(plugin)["model"]
        assert model.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
        config = json.loads((tmp_path / "model.json").read_text())
        assert config["vocabulary_sizes"] == {"encoder": 24, "decoder": 24}
        assert config["model"]["residual"] == load(plugin)["cfg"]["model"]["residual"]

    def test_each_parameter_is_stored_once(self, tmp_path):
        safe_open = pytest.importorskip("safetensors").safe_open
        convert(release_checkpoint(SEQUENCE), tmp_path, "--retie", "--to", "safetensors", output="model")
        config = json.loads((tmp_path / "model.json").read_text())
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            names = set(file.keys())
            stored = sum(file.get_tensor(name).numel() for name in names if not name.endswith("version"))
        assert stored == Golden(SEQUENCE).meta["parameter_count"]
        assert names.isdisjoint(config["tied"])
        assert names >= set(config["tied"].values())
        assert config["tied"]["decoder.layers.5.fc1.weight"] == "decoder.layers.4.fc1.weight"

    def test_another_format_and_a_missing_package_are_errors(self, tmp_path, monkeypatch, capsys):
        plugin = convert(release_checkpoint(POST), tmp_path, output="plugin.pt")
        convert(plugin, tmp_path, "--to", "safetensors", output="model")
        (tmp_path / "model.json").write_text('{"format": "other"}')
        with pytest.raises(InputError, match=r"model\.json: format 'other', not 'b2t_fairseq 1'"):
            export.load(tmp_path / "model")
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
        message = refused(plugin, tmp_path, capsys, "--to", "safetensors")
        assert "needs the package safetensors: pip install safetensors" in message


@pytest.mark.skipif(not REAL.exists(), reason="the releases' checkpoints are not beside this project")
def test_ctranslate2_translates_as_the_sharing_release(tmp_path):
    """Beam search over 100 real sentences finds the same best translations, with scores to 1e-4."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    folder = REAL / "C_sequence"
    stock = convert(folder / "checkpoint_last.pt", tmp_path, "--to", "stock")
    ctranslate2.converters.FairseqConverter(str(stock), str(folder)).convert(str(tmp_path / "ctranslate2"))
    translator = ctranslate2.Translator(str(tmp_path / "ctranslate2"), intra_threads=1)
    words = [line.split() for line in (folder / "test.en").read_text(encoding="utf-8").splitlines()]
    model, _, task = load_model(stock, folder)
    theirs = decode(model, sentence_pairs(folder, "test", task.source_dictionary), 4, 0.6, min_len=0)
    ours = translator.translate_batch(
        words, beam_size=4, length_penalty=0.6, min_decoding_length=0, max_decoding_length=201, return_scores=True
    )
    for number, result in enumerate(ours):
        best = theirs[number][0]
        assert " ".join(result.hypotheses[0]) == task.target_dictionary.string(best["tokens"])
        assert result.scores[0] == pytest.approx(best["score"].item(), abs=1e-4)

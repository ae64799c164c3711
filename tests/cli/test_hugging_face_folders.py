"""``b2t convert --to transformers`` and ``--to fsmt``: whole folders with their tokenizers, and what is refused."""

import json
import shutil
from copy import deepcopy
from types import SimpleNamespace

import moses_bpe
import pytest
import sentencepiece
import spm
import torch
from conversion import POST, convert
from documentation import PAGES, fences
from fairseq.data import Dictionary, encoders
from helpers import make_model
from releases import release_checkpoint
from training import SHARED, binarize, train
from wmt import pairs

from b2t_cli import main as b2t
from b2t_fairseq import hub

pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[transformers]'")

from hugging_face import (
    DEPTHS,
    assert_same_logits,
    assert_same_translations,
    state_of,
    write_model,
    written,
)
from searching import make_sentences, make_translator
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, FSMTForConditionalGeneration

from b2t_cli.conversion.hugging_face import conversion, tokenizer

pytestmark = pytest.mark.usefixtures("copied_code")

PAIRS = pairs(160, 1)
SENTENCES = [source for source, _ in PAIRS[:6]] + ["An unknown word: \u1234 </s>  here.", ""]
FILES = {"spm.model": "spm.model", "bpe.codes": "subwords/bpe.codes"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on SentencePiece's pieces; ``bin`` in it has the data, and beside that is ``spm.model``."""
    folder = tmp_path_factory.mktemp("a run")
    text = {"en": [source for source, _ in PAIRS], "de": [target for _, target in PAIRS]}
    for language, lines in text.items():
        (folder / language).write_text("".join(f"{line}\n" for line in lines))
    spm.train(folder / "spm", [folder / "en", folder / "de"], 90, "bpe")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    for language, lines in text.items():
        encoded = [" ".join(line) + "\n" for line in pieces.encode(lines, out_type=str)]
        for split, part in (("train", encoded[8:]), ("valid", encoded[:8]), ("test", encoded[:8])):
            (folder / f"{split}.{language}").write_text("".join(part))
    train(binarize(folder), folder, *SHARED, "--max-update", "40", "--max-tokens", "400")
    return folder


def refused(capsys, *arguments):
    """Return the message with which the command refuses."""
    capsys.readouterr()
    assert b2t(["convert", *map(str, arguments)]) == 1
    return capsys.readouterr().err


class TestWholeFolders:
    def test_the_block_in_the_documentation_prints_translations(self, run, tmp_path, monkeypatch, capsys):
        (block,) = [code for language, code in fences(PAGES["docs/checkpoints.md"]) if language == "python"]
        monkeypatch.chdir(tmp_path)
        assert b2t(["convert", str(run / "checkpoint_last.pt"), "model", "--to", "transformers"]) == 0
        capsys.readouterr()
        exec(block, {})
        ours = hub.from_pretrained(run / "checkpoint_last.pt")
        expected = ours.translate(["A dog runs through the snow."], beam=4, lenpen=0.6)
        assert capsys.readouterr().out == f"{expected}\n"

    def test_text_becomes_the_translations_of_the_plugin(self, run, tmp_path, capsys):
        """By the tokenizer and ``generate``, from a folder that was moved; nothing in it leads elsewhere."""
        assert b2t(["convert", str(run / "checkpoint_last.pt"), str(tmp_path / "first"), "--to", "transformers"]) == 0
        assert "are those of the plugin's model within" in capsys.readouterr().out
        folder = (tmp_path / "first").rename(tmp_path / "moved")
        assert not list(folder.rglob("__pycache__"))
        assert not any(str(run) in path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".py"))
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
        splitter = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        ours = hub.from_pretrained(run / "checkpoint_last.pt")
        for beam, lenpen in ((1, 1.0), (4, 0.6)):
            batch = splitter(SENTENCES, return_tensors="pt", padding=True)
            tokens = model.generate(**batch, num_beams=beam, length_penalty=lenpen, max_new_tokens=16)
            theirs = splitter.batch_decode(tokens, skip_special_tokens=True)
            assert theirs == ours.translate(SENTENCES, beam=beam, lenpen=lenpen, max_len_a=0, max_len_b=15)
        assert len(set(theirs)) > 3
        assert model.generation_config.num_beams == 5
        assert model.generation_config.max_new_tokens == 201

    def test_the_tokenizer_gives_the_symbols_of_fairseq(self, run, tmp_path):
        """For sources and targets, and for any text; what ``save_pretrained`` writes does the same."""
        b2t(["convert", str(run / "checkpoint_last.pt"), str(tmp_path / "model"), "--to", "transformers"])
        splitter = AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=True)
        splitter.save_pretrained(tmp_path / "again")
        again = AutoTokenizer.from_pretrained(tmp_path / "again", trust_remote_code=True)
        ours = hub.from_pretrained(run / "checkpoint_last.pt")
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(run / "spm.model"))
        for sentence in SENTENCES:
            expected = ours.encode(sentence).tolist()
            for each in (splitter, again, deepcopy(splitter)):
                assert each(sentence).input_ids == expected
            line = " ".join(pieces.encode(sentence, out_type=str))
            target = ours.task.target_dictionary.encode_line(line, add_if_not_exist=False).tolist()
            assert splitter(text_target=sentence).input_ids == target
            assert splitter.decode(target, skip_special_tokens=True) == ours.decode(torch.tensor(target))
        assert splitter("", return_tensors="pt").input_ids.tolist() == [[2]]

    @pytest.mark.parametrize("lower_case", [False, True], ids=["cased", "lower case"])
    def test_moses_and_bpe_are_those_of_the_preparation(self, tmp_path, lower_case):
        """The files of a run with ``bpe.codes`` in place of ``spm.model``; IWSLT14 is prepared in lower case."""
        pytest.importorskip("sacremoses")
        pytest.importorskip("subword_nmt")
        given = [source.replace(".", "-day's & co.") for source, _ in PAIRS]
        lines = [line.lower() for line in given] if lower_case else given
        (tmp_path / "tokens").write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / "model").mkdir()
        moses_bpe.learn(tmp_path / "bpe.codes", [tmp_path / "tokens"], 40, workers=1)
        moses_bpe._load_codes(str(tmp_path / "bpe.codes"))
        symbols = Dictionary()
        for word in moses_bpe._apply(lines).decode().split():
            symbols.add_symbol(word)
        for language in ("en", "de"):
            symbols.save(str(tmp_path / f"dict.{language}.txt"))
        model = make_model(task=SimpleNamespace(source_dictionary=symbols, target_dictionary=symbols))
        checkpoint, languages = tmp_path / "runs/model.pt", {"source_lang": "en", "target_lang": "de"}
        state = {"model": model.state_dict()}
        files, report = tokenizer.tokenizer_files(checkpoint, state, model, tmp_path, **languages)
        assert str(tmp_path / "bpe.codes") in report
        assert report.endswith(", in lower case") == lower_case
        for name, content in files.items():
            (tmp_path / "model" / name).write_bytes(content)
        splitter = AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=True)
        moses = encoders.build_tokenizer(hub_settings(_name="moses", source_lang="en", target_lang="de"))
        bpe = encoders.build_bpe(hub_settings(_name="subword_nmt", bpe_codes=str(tmp_path / "bpe.codes")))
        for line, text in [*zip(lines[:4], given, strict=False), ("", "")]:
            expected = symbols.encode_line(bpe.encode(moses.encode(line)), add_if_not_exist=False)
            assert splitter(text).input_ids == expected.tolist()
            decoded = moses.decode(bpe.decode(symbols.string(expected)))
            assert splitter.decode(expected.tolist(), skip_special_tokens=True) == decoded

    def test_a_checkpoint_of_a_release_is_written_too(self, run, tmp_path):
        """It becomes one of this plugin first; its dictionaries are given, as it does not say where they are."""
        data = tmp_path / "data"
        data.mkdir()
        for language in ("en", "de"):
            (data / f"dict.{language}.txt").write_text("".join(f"w{i} 1\n" for i in range(20)))
        shutil.copy(run / "spm.model", data)
        flags = ("--to", "transformers", "--data", str(data))
        folder = convert(release_checkpoint(POST), tmp_path, *flags, output="model")
        assert json.loads((folder / "config.json").read_text())["residual"] == "post_ln"
        assert json.loads((folder / "tokenizer_config.json").read_text())["source_lang"] == "en"


def hub_settings(**settings):
    """Return settings as fairseq's registries take them."""
    from omegaconf import OmegaConf

    return OmegaConf.create(settings)


class TestFSMT:
    @pytest.mark.parametrize(
        "flags",
        [
            {"layer_sharing": "cycle_rev", "encoder_unique_layers": 2, "decoder_unique_layers": 2},
            {"share_all_embeddings": False, "share_decoder_input_output_embed": True, "activation_fn": "gelu_accurate"},
            {
                "share_all_embeddings": False,
                "no_scale_embedding": True,
                "decoder_ffn_embed_dim": 24,
            },
        ],
        ids=["shared", "tied output", "own embeddings"],
    )
    def test_post_ln_models_are_a_stock_architecture(self, tmp_path, flags):
        model, other = written(tmp_path / "model", "fsmt", residual="post_ln", positions="shape", **flags)
        assert type(other) is FSMTForConditionalGeneration
        assert_same_logits(model, other)

    def test_translations_that_end_are_those_of_the_plugin(self, tmp_path):
        """Those that the maximum length ends get another score from FSMT, whose forced end costs nothing."""
        flags = {"residual": "post_ln", "share_all_embeddings": False}
        model = make_translator(end=3.0, **DEPTHS, **flags)
        other = write_model(state_of(model, **flags), tmp_path / "model", "fsmt")

        def ends(best):
            return len(best["tokens"]) < 31

        for beam, lenpen in ((4, 0.6), (5, 2.0)):
            assert assert_same_translations(model, other, beam, lenpen, 30, ends) == 6
        tokens = other.generate(input_ids=make_sentences()["net_input"]["src_tokens"], max_new_tokens=3)
        assert tokens[:, 3].tolist() == [2] * 6

    def test_the_folder_needs_no_code_for_the_model(self, tmp_path, run, capsys):
        state = torch.load(run / "checkpoint_last.pt", weights_only=True)
        state["cfg"]["model"]["residual"] = "post_ln"
        for stack in ("encoder", "decoder"):
            state["model"]._metadata[stack]["residual"] = "post_ln"
        torch.save(state, run / "post_ln.pt")
        assert b2t(["convert", str(run / "post_ln.pt"), str(tmp_path / "model"), "--to", "fsmt"]) == 0
        assert "FSMTForConditionalGeneration, Post-LN" in capsys.readouterr().out
        assert [path.name for path in (tmp_path / "model").glob("*.py")] == ["tokenization_b2t.py"]
        assert type(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")) is FSMTForConditionalGeneration
        splitter = AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=True)
        assert splitter(SENTENCES[0]).input_ids == hub.from_pretrained(run / "post_ln.pt").encode(SENTENCES[0]).tolist()


class TestRefusals:
    def test_folders_that_cannot_be_written(self, run, tmp_path, capsys):
        checkpoint = run / "checkpoint_last.pt"
        (tmp_path / "full").mkdir()
        (tmp_path / "full/note").write_text("mine")
        to = ("--to", "transformers")
        assert "full is a folder that is not empty; give a new one" in refused(
            capsys, checkpoint, tmp_path / "full", *to
        )
        assert "note is a file; give the folder" in refused(capsys, checkpoint, tmp_path / "full/note", *to)
        message = refused(capsys, checkpoint, tmp_path / "no/where", *to)
        assert f"there is no folder {tmp_path / 'no'}" in message

    def test_dictionaries_and_subwords_that_do_not_fit(self, run, tmp_path, capsys):
        """Nothing is left of a folder that was begun."""
        checkpoint, data = run / "checkpoint_last.pt", tmp_path / "data"
        to = (tmp_path / "model", "--to", "transformers", "--data", data)
        assert f"{data} has no dictionaries" in refused(capsys, checkpoint, *to)
        (data / "bin").mkdir(parents=True)
        without_languages = (*to[:-1], data / "bin")
        to = (*without_languages, "--source-lang", "en", "--target-lang", "de")
        words = (run / "bin/dict.en.txt").read_text().splitlines()
        for path in ("dict.en.txt", "dict.de.txt"):
            (data / "bin" / path).write_text("\n".join(words[:-1]) + "\n")
        assert "--source-lang en --target-lang de" in refused(capsys, checkpoint, *without_languages)
        assert f"dict.en.txt has {len(words) + 3} symbols, but the model's encoder has" in refused(
            capsys, checkpoint, *to
        )
        (data / "bin/dict.en.txt").write_text("\n".join(reversed(words)) + "\n")
        assert "of another dictionary than that of the training" in refused(capsys, checkpoint, *to)
        for path in ("dict.en.txt", "dict.de.txt"):
            (data / "bin" / path).write_text("\n".join(words) + "\n")
        alone = shutil.copy(checkpoint, tmp_path / "alone.pt")
        assert f"neither spm.model nor bpe.codes in {data / 'bin'}, {data}, {tmp_path}" in refused(capsys, alone, *to)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("model")]

    def test_a_model_that_differs_leaves_nothing(self, run, tmp_path, capsys, monkeypatch):
        to = (run / "checkpoint_last.pt", tmp_path / "model", "--to", "transformers")
        monkeypatch.setattr(conversion, "weights", changed(conversion.weights))
        assert "log-probabilities differ from those of the plugin's model by" in refused(capsys, *to)
        assert not list(tmp_path.iterdir())


def changed(weights):
    """Return a function that gives other weights than the model's."""

    def wrapper(model):
        return {name: tensor + 0.1 if name.endswith("fc1.bias") else tensor for name, tensor in weights(model).items()}

    return wrapper

"""Flags of b2t generate that are not the search's own: shards, output, seed, language model, overrides."""

import re
import shutil

import pytest
from training import MODEL_FLAGS, TRAIN_FLAGS, binarize, train, write_corpus

from b2t_cli import main as b2t
from b2t_cli.generate import main as b2t_generate
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints
from b2t_fairseq.hub import from_pretrained
from b2t_fairseq.kernels import quantized
from b2t_fairseq.kernels.bfloat16 import BFloat16Linear


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A corpus, its data, and a translation model and a language model of a few updates."""
    folder = tmp_path_factory.mktemp("generating")
    write_corpus(folder)
    data = binarize(folder)
    train(data, folder / "run", "--max-update", "12", "--dropout", "0.2")
    # a language model looks for its dictionary under this name
    shutil.copy(f"{data}/dict.de.txt", f"{data}/dict.txt")
    for split in ("train", "valid"):
        for kind in ("bin", "idx"):
            shutil.copy(f"{data}/{split}.en-de.de.{kind}", f"{data}/{split}.{kind}")
    sizes = ["--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "32", "--decoder-layers", "2"]
    model = ["--task", "language_modeling", *MODEL_FLAGS[:2], "--arch", "b2t_transformer_lm", *sizes]
    model += ["--sample-break-mode", "eos", "--decoder-attention-heads", "2", "--max-update", "4"]
    train(data, folder / "lm", *model, basis=TRAIN_FLAGS)
    return folder


@pytest.fixture
def generate(trained, capsys):
    """Return a function of flags that returns what b2t generate prints."""

    def call(*flags):
        capsys.readouterr()
        flags = ["--path", str(trained / "run/checkpoint_last.pt"), *flags]
        b2t_generate(
            [
                *(str(trained / "bin"), "--cpu", "--max-len-b", "20", "--num-workers", "0", "--batch-size", "4"),
                *("--required-batch-size-multiple", "1", *flags),
            ]
        )
        return capsys.readouterr().out

    return call


def lines(output, kind="D"):
    """Return number of the sentence and text, in the order of printing."""
    fields = [line.split("\t") for line in output.splitlines() if re.match(rf"{kind}-\d+\t", line)]
    return [(int(first[2:]), rest[-1]) for first, *rest in fields]


def test_shards_divide_the_sentences(generate):
    """Each sentence is translated in one shard, as it is without shards."""
    whole = dict(lines(generate()))
    shards = [lines(generate("--num-shards", "3", "--shard-id", str(shard))) for shard in range(3)]
    numbers = [number for shard in shards for number, _ in shard]
    assert sorted(numbers) == sorted(whole)
    assert dict(pair for shard in shards for pair in shard) == whole
    assert all(shards)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-shards", "2", "--shard-id", "2"], "--shard-id 2: with --num-shards 2 give a number from 0 to 1"),
        (["--num-shards", "0"], "--num-shards 0: give a positive number"),
        (["--constraints"], "--constraints ordered has no effect here"),
        (["--replace-unk"], "--replace-unk @@"),
        (["--nbest", "9"], "--nbest 9 is more than --beam 5"),
        (["--print-step"], "--print-step is not supported"),
        (["--amp"], "--amp has no effect on translation"),
        (["--memory-efficient-bf16"], "--memory-efficient-bf16 has no effect on translation"),
        (["--fp16"], "--fp16 is for GPUs, and none is used here"),
    ],
)
def test_what_would_be_ignored_is_refused(generate, flags, message):
    with pytest.raises(InputError) as error:
        generate(*flags)
    assert str(error.value).startswith(message)


def test_a_model_does_not_translate_backwards(trained, generate):
    """The data of one direction are those of the other too, and with a joined dictionary nothing else would tell."""
    message = r"--source-lang de --target-lang en: .*checkpoint_last.pt translates from en into de"
    with pytest.raises(InputError, match=message):
        generate("--source-lang", "de", "--target-lang", "en")
    with pytest.raises(InputError, match=message):
        from_pretrained(trained / "run", "checkpoint_last.pt", source_lang="de", target_lang="en")
    assert lines(generate("--source-lang", "en", "--target-lang", "de")) == lines(generate())


def test_a_shard_without_a_batch_translates_nothing(generate):
    """Each of 30 shards gets one batch at most, and there are six."""
    assert not lines(generate("--num-shards", "30", "--shard-id", "29"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-source-positions", "4"], "--gen-subset test: Size of sample #.*, or translate the text with b2t tran"),
        (["--max-tokens", "5"], "--max-tokens 5: a sentence of 'test' has more tokens"),
        (["--gen-subset", "test,other"], "--gen-subset test,other: .* has no data named other"),
        (["--model-overrides", "{'kernel"], "--model-overrides {'kernel: give a dictionary"),
        (["--model-overrides", "{'kernel': 'fairseq'}"], "the checkpoint has no setting 'kernel', so it would have no"),
        (["--remove-bpe", "other"], "--remove-bpe other: unknown pieces"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
        (["--subset-lenpen", "test=nan"], "--subset-lenpen test=nan: give a finite number"),
    ],
)
def test_what_fairseq_would_fail_on_later_is_refused(generate, flags, message):
    with pytest.raises(InputError, match=message):
        generate(*flags)


def test_a_refused_flag_is_one_line_without_a_traceback(trained, capsys):
    path = str(trained / "run/checkpoint_last.pt")
    assert b2t(["generate", str(trained / "bin"), "--path", path, "--cpu", "--iter-decode-with-beam", "2"]) == 1
    assert capsys.readouterr().err.startswith("b2t generate: error: --iter-decode-with-beam 2 is not supported: ")


class TestInt8:
    """8-bit weights change scores a little; tests/kernels/test_int8.py has the numbers."""

    def test_both_kernels_translate_with_eight_bits(self, generate):
        exact = generate()
        for flags in ([], ["--model-overrides", "{'kernels': 'fairseq'}"]):
            output = generate("--int8", *flags)
            assert dict(lines(output)).keys() == dict(lines(exact)).keys()
            assert lines(output, "P") != lines(exact, "P")
            same = sum(ours == theirs for ours, theirs in zip(lines(output), lines(exact), strict=True))
            assert same > len(lines(exact)) / 2

    def test_the_language_model_has_eight_bits_too(self, trained, generate, caplog):
        caplog.set_level("INFO")
        generate("--int8", "--lm-path", str(trained / "lm/checkpoint_last.pt"), "--lm-weight", "0.5")
        assert caplog.text.count("linear layers with") == 2

    def test_a_language_model_generates(self, trained, generate, caplog):
        caplog.set_level("INFO")
        task = ["--task", "language_modeling", "--sample-break-mode", "eos", "--gen-subset", "valid"]
        output = generate("--path", str(trained / "lm/checkpoint_last.pt"), *task, "--int8", "--prefix-size", "1")
        assert "int8: 13 linear layers" in caplog.text
        assert lines(output)

    @pytest.mark.parametrize("flag", ["--fp16", "--bf16"])
    def test_other_precisions_are_refused(self, generate, flag):
        with pytest.raises(InputError, match=f"--int8 and {flag} are two precisions"):
            generate("--int8", flag)

    def test_a_visible_gpu_is_refused(self, trained, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        with pytest.raises(InputError, match="--int8 is for CPUs, but a GPU is visible: add --cpu"):
            b2t_generate([str(trained / "bin"), "--path", str(trained / "run/checkpoint_last.pt"), "--int8"])

    def test_pytorch_without_engine_is_refused_before_anything_is_loaded(self, generate, monkeypatch):
        monkeypatch.setattr(quantized, "engine_name", lambda: None)
        with pytest.raises(InputError, match="has no 8-bit products"):
            generate("--int8")

    def test_hub_models_translate_with_eight_bits(self, trained):
        model = from_pretrained(trained / "run", "checkpoint_last.pt", trained / "bin", int8=True)
        assert isinstance(model.models[0].encoder.layers[0].fc1, quantized.Int8Linear)
        assert model.translate(["w1 w2 w3"], beam=2)[0]


class TestBFloat16:
    """Weights in bfloat16 change scores a little; tests/kernels/test_bfloat16.py has the numbers."""

    def test_both_kernels_translate_in_bfloat16(self, generate, caplog):
        caplog.set_level("INFO")
        exact = generate()
        for flags in ([], ["--model-overrides", "{'kernels': 'fairseq'}"]):
            output = generate("--bf16", *flags)
            assert lines(output, "P") != lines(exact, "P")
            same = sum(ours == theirs for ours, theirs in zip(lines(output), lines(exact), strict=True))
            assert same > len(lines(exact)) / 2
        assert caplog.text.count("different weights in bfloat16") == 2
        assert "reordered for oneDNN:" not in caplog.text.split("different weights in bfloat16", 1)[1]

    @pytest.mark.parametrize("flag", ["--fp16", "--int8"])
    def test_two_precisions_are_refused(self, generate, flag):
        with pytest.raises(InputError, match="are two precisions of the same weights"):
            generate("--bf16", flag)

    def test_hub_models_translate_in_bfloat16(self, trained):
        model = from_pretrained(trained / "run", "checkpoint_last.pt", trained / "bin", bf16=True)
        assert isinstance(model.models[0].encoder.layers[0].fc1, BFloat16Linear)
        assert model.translate(["w1 w2 w3"], beam=2)[0]
        with pytest.raises(InputError, match="--int8 and --bf16 are two precisions"):
            from_pretrained(trained / "run", "checkpoint_last.pt", trained / "bin", int8=True, bf16=True)


def test_nbest_prints_so_many(generate):
    printed = [number for number, _ in lines(generate("--nbest", "3"))]
    assert {printed.count(number) for number in printed} == {3}


def test_quiet_prints_no_translation(generate):
    output = generate("--quiet")
    assert not lines(output)
    assert "Generate test with beam=5" in output


def test_no_seed_provided_draws_anew(generate):
    """With a seed two calls draw the same."""
    flags = ["--sampling", "--beam", "2", "--nbest", "2"]
    assert lines(generate(*flags)) == lines(generate(*flags))
    assert lines(generate(*flags)) != lines(generate(*flags, "--seed", "3"))
    assert lines(generate(*flags, "--no-seed-provided")) != lines(generate(*flags, "--no-seed-provided"))


def test_lm_path_changes_the_scores(trained, generate):
    plain = lines(generate(), "P")
    weighted = generate("--lm-path", str(trained / "lm/checkpoint_last.pt"), "--lm-weight", "0.5")
    assert lines(weighted, "P") != plain
    none = generate("--lm-path", str(trained / "lm/checkpoint_last.pt"), "--lm-weight", "0")
    assert lines(none) == lines(generate())


def test_a_missing_language_model_is_an_error(trained, generate, tmp_path):
    with pytest.raises(InputError, match=r"--lm-path .*nowhere.pt: no such checkpoint"):
        generate("--lm-path", str(tmp_path / "nowhere.pt"), "--lm-weight", "0.5")


def test_the_dictionary_of_the_language_model_is_asked_for(trained, generate, tmp_path):
    """fairseq says that there is no dict.txt, and not whose it is."""
    data = shutil.copytree(trained / "bin", tmp_path / "bin")
    (data / "dict.txt").unlink()
    flags = ["--path", str(trained / "run/checkpoint_last.pt"), "--lm-path", str(trained / "lm/checkpoint_last.pt")]
    with pytest.raises(InputError, match=r"looks for the language model's dictionary in .*/dict\.txt; copy it there"):
        b2t_generate([str(data), "--cpu", *flags])


def test_model_overrides_reach_the_model(generate):
    """Another kind of kernels is another setting, with the same translations."""
    fairseqs = generate("--model-overrides", "{'kernels': 'fairseq'}")
    assert lines(fairseqs) == lines(generate())


def test_retain_dropout_changes_translations(generate):
    assert lines(generate("--retain-dropout", "--seed", "1")) != lines(generate("--retain-dropout", "--seed", "2"))


def test_score_reference_scores_the_reference(generate):
    output = generate("--score-reference")
    assert lines(output, "H") == lines(output, "T")


def test_scores_as_sacrebleu_has_them(trained, generate):
    """--scoring sacrebleu is the flag that fairseq reads; --sacrebleu is refused."""
    assert "BLEU" in generate("--scoring", "sacrebleu").splitlines()[-1]
    with pytest.raises(InputError, match=r"--sacrebleu is not supported: .*--scoring sacrebleu"):
        generate("--sacrebleu")


def test_the_checkpoint_is_as_before(trained):
    """No search writes into the folder of the run."""
    state = checkpoints.load(trained / "run/checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 12

"""``--subword-sampling``: pieces are drawn anew in every epoch, by the models' distributions; batches stay valid."""

import itertools
import math
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import sentencepiece
import torch
from fairseq import tasks
from fairseq.data import Dictionary
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.tasks.translation import TranslationTask
from helpers import ROOT
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from pieces import MODELS, binarize_pieces
from stopped import stopped_at
from training import assert_same_run, train

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.subwords import models
from b2t_fairseq.subwords.merging import Merging
from b2t_fairseq.subwords.task import SamplingTranslationConfig, parse
from b2t_fairseq.subwords.unigram import Unigram
from b2t_fairseq.upstream import stopping
from b2t_fairseq.upstream.hydra_loading import Loading

SMALL = ["--encoder-layers", "1", "--decoder-layers", "1"]
STRENGTHS = {"unigram": 0.1, "bpe": 0.3, "subword_nmt": 0.4}
SCORES = {piece: math.log(p) for piece, p in {"a": 0.3, "b": 0.2, "ab": 0.25, "ba": 0.15, "aba": 0.1}.items()}
INDICES = dict(zip(SCORES, range(4, 9), strict=True))
DRAWN = ["--subword-sampling", "0.2", *SMALL, "--max-tokens", "600"]


@pytest.fixture(scope="module")
def data_of(words, unigram_data):
    """The folder of the data by the kind of its pieces."""
    return {kind: unigram_data if kind == "unigram" else binarize_pieces(words, kind) for kind in MODELS}


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Later runs in this process do not stop."""
    yield
    stopping._asked.clear()


def task_of(folder, sampling=None, **settings):
    """Return fairseq's translation task of data with its training set, whose pieces are drawn."""
    cfg = SamplingTranslationConfig(
        data=str(folder), subword_sampling=sampling, source_lang="en", target_lang="de", **settings
    )
    cfg.train_subset, cfg.dataset_impl, cfg.required_seq_len_multiple, cfg.seed = "train", None, 1, 7
    task = TranslationTask.setup_task(cfg)
    task.load_dataset("train", combine=True)
    return task


def tensors(dataset, side="source"):
    """Return all sentences of a side."""
    return [dataset[number][side].tolist() for number in range(len(dataset))]


def text_of(task, sentence):
    """Return a sentence without the marks of its pieces."""
    names = "".join(f"{task.src_dict[symbol]} " for symbol in sentence[:-1])
    return names.replace("@@ ", "").replace(" ", "" if "\u2581" in names else " ").replace("\u2581", " ").strip()


class TestUnigram:
    @pytest.mark.parametrize("alpha", [0.2, 1.0])
    def test_each_segmentation_has_its_probability(self, alpha):
        """P(x) ** alpha / Z, enumerated; 4,000 draws keep to it within four standard deviations."""
        word = "abab"
        probabilities = {}
        for cuts in itertools.product([False, True], repeat=len(word) - 1):
            bounds = [0, *(place + 1 for place, cut in enumerate(cuts) if cut), len(word)]
            pieces = [word[begin:end] for begin, end in itertools.pairwise(bounds)]
            if all(piece in SCORES for piece in pieces):
                key = tuple(INDICES[piece] for piece in pieces)
                probabilities[key] = math.exp(alpha * sum(SCORES[piece] for piece in pieces))
        total = sum(probabilities.values())
        sampler = Unigram(SCORES, INDICES, alpha)
        lattice, generator, draws = sampler.prepare(word), Random(0), 4000
        counts = Counter(tuple(sampler.draw(lattice, generator)) for _ in range(draws))
        assert counts.keys() <= probabilities.keys()
        for key, weight in probabilities.items():
            p = weight / total
            assert abs(counts[key] / draws - p) < 4 * math.sqrt(p * (1 - p) / draws)
        best = max(probabilities, key=probabilities.get)
        assert tuple(sampler.best(word)) == best

    def test_pieces_that_the_dictionary_lacks_are_not_drawn(self):
        sampler = Unigram(SCORES, {"a": 4, "b": 5}, 0.5)
        assert sampler.draw(sampler.prepare("abab"), Random(0)) == [4, 5, 4, 5]
        assert sampler.prepare("abc") is None
        assert sampler.best("abc") is None


class TestMerging:
    @staticmethod
    def sampler(dropout):
        ranks = {("a", "b"): 0, ("ab", "ab"): 1, ("b", "a"): 2}
        return Merging(
            lambda a, b: ranks.get((a, b)), list, lambda x: x, {"a": 4, "b": 5, "ab": 6, "ba": 7, "abab": 8}, dropout
        )

    def test_the_first_merge_is_left_out_with_the_probability(self):
        """Of 'ab' there is one merge, so the word stays in two with the probability itself."""
        sampler, generator = self.sampler(0.3), Random(1)
        counts = Counter(tuple(sampler.draw(["a", "b"], generator)) for _ in range(4000))
        assert set(counts) == {(6,), (4, 5)}
        assert abs(counts[4, 5] / 4000 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)

    def test_a_word_is_merged_in_the_order_of_priorities(self):
        sampler = self.sampler(0.5)
        assert sampler.best("abab") == [8]
        assert sampler.best("baba") == [5, 6, 4]
        drawn = {tuple(sampler.draw(list("abab"), Random(seed))) for seed in range(200)}
        # what no order of merges can give is not drawn: b a in the middle is joined only if both a b were left out
        assert drawn == {(8,), (6, 6), (6, 4, 5), (4, 5, 6), (4, 5, 4, 5), (4, 7, 5)}


def test_only_the_end_of_a_line_separates_codes(tmp_path):
    """Text may have U+2028 and U+0085, of which Python makes ends of lines; subword-nmt does not."""
    codes = tmp_path / "bpe.codes"
    codes.write_text("#version: 0.2\na \u2028\n\u0085 b\na b</w>\n", encoding="utf-8")
    dictionary = Dictionary()
    for piece in ("a@@", "b", "ab"):
        dictionary.add_symbol(piece)
    sampler = models.read(codes, dictionary, 0.5).sampler
    assert [sampler.rank(*pair) for pair in (("a", "\u2028"), ("\u0085", "b"), ("a", "b</w>"))] == [0, 1, 2]


@pytest.mark.parametrize("kind", MODELS)
class TestData:
    def test_without_drawing_the_model_gives_the_pieces_of_the_data(self, data_of, kind):
        """They are those of the real library, which made the data."""
        task = task_of(data_of[kind])
        pieces = models.read(Path(data_of[kind]) / MODELS[kind], task.src_dict, STRENGTHS[kind])
        for sentence in tensors(task.datasets["train"]):
            words = pieces.words(sentence[:-1])
            assert [symbol for word in words for symbol in word] == sentence[:-1]
            assert [pieces.sampler.best(pieces.text(word)) for word in words] == [list(word) for word in words]

    def test_other_pieces_of_the_same_text_in_every_epoch(self, data_of, kind):
        """Each sentence keeps its text and its end; an epoch can be repeated, and the seed matters."""
        plain, task = task_of(data_of[kind]), task_of(data_of[kind], f"{STRENGTHS[kind]}")
        dataset, epochs = task.datasets["train"], {}
        for epoch in (1, 2, 1):
            dataset.set_epoch(epoch)
            drawn = tensors(dataset)
            assert epochs.setdefault(epoch, drawn) == drawn
            assert [text_of(task, s) for s in drawn] == [text_of(plain, s) for s in tensors(plain.datasets["train"])]
            assert all(sentence[-1] == task.src_dict.eos() for sentence in drawn)
        same = sum(first == second for first, second in zip(epochs[1], epochs[2], strict=True))
        assert same < 0.7 * len(drawn)
        assert tensors(dataset, "target") != tensors(plain.datasets["train"], "target")

    def test_no_batch_is_larger_than_planned(self, data_of, kind):
        """Nor is a sentence longer than a model's positions, and no sentence is left out for it."""
        task = task_of(data_of[kind], f"{STRENGTHS[kind]}")
        dataset, limit = task.datasets["train"], 1 + max(task_of(data_of[kind]).datasets["train"].src_sizes)
        iterator = task.get_batch_iterator(dataset, max_tokens=120, max_positions=(limit, limit), seed=1)
        assert sum(map(len, iterator.frozen_batches)) == len(dataset)
        used = []
        for epoch in (1, 2, 3):
            dataset.set_epoch(epoch)
            for batch in iterator.frozen_batches:
                collated = dataset.collater([dataset[number] for number in batch])
                for tokens in (collated["net_input"]["src_tokens"], collated["target"]):
                    assert tokens.numel() <= 120
                    assert tokens.size(1) <= limit
                used.append(collated["ntokens"])
        drawn = [len(s) for epoch in (4, 5) for s in (dataset.set_epoch(epoch), tensors(dataset))[1]]
        # longer than in the data, and few draws are refused
        assert np.mean(drawn) > 1.05 * np.mean(dataset.sides["src"].own_sizes)
        assert np.mean(drawn) == pytest.approx(
            dataset.sides["src"].ratio * np.mean(dataset.sides["src"].own_sizes), rel=0.1
        )


class TestSides:
    def test_each_side_has_its_own(self, unigram_data):
        plain = task_of(unigram_data).datasets["train"]
        for sampling, is_drawn in (("0.2/none", (True, False)), ("none/0.2", (False, True)), ("0.2", (True, True))):
            dataset = task_of(unigram_data, sampling).datasets["train"]
            changed = tuple(tensors(dataset, side) != tensors(plain, side) for side in ("source", "target"))
            assert changed == is_drawn
        assert tensors(task_of(unigram_data, "none").datasets["train"]) == tensors(plain)

    def test_validation_keeps_the_pieces_of_the_data(self, unigram_data):
        tasks = [task_of(unigram_data, sampling) for sampling in (None, "0.2")]
        for task in tasks:
            task.load_dataset("valid", combine=False)
        plain, drawing = (task.datasets["valid"] for task in tasks)
        drawing.set_epoch(2)
        for side in ("source", "target"):
            assert tensors(drawing, side) == tensors(plain, side)

    def test_the_strength_matters(self, unigram_data):
        """A small alpha cuts words into more pieces."""
        ratios = [task_of(unigram_data, f"{alpha}").datasets["train"].sides["src"].ratio for alpha in (0.05, 0.3, 2)]
        assert ratios == sorted(ratios, reverse=True)

    @pytest.mark.parametrize("text", ["much", "0.1/0.2/0.3", "0.1/", ""])
    def test_what_is_no_number_is_refused(self, text):
        with pytest.raises(InputError, match=f"--subword-sampling {text}: give a number, or SOURCE/TARGET"):
            parse(text)


def test_symbols_that_the_model_does_not_make_stay(unigram_data, tmp_path):
    """Unknown words, and pieces that the user has defined, are left as they are in the data."""
    text = [" ".join(["bakilo", "mune", "<tag>", "rasi"]) for _ in range(40)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=str(tmp_path / "spm"), vocab_size=18, user_defined_symbols=["<tag>"]
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    dictionary = Dictionary()
    names = processor.encode("bakilo <tag> mune", out_type=str)
    for number in range(3, processor.get_piece_size()):
        dictionary.add_symbol(processor.id_to_piece(number))
    pieces = models.read(tmp_path / "spm.model", dictionary, 0.1)
    assert dictionary.index("<tag>") not in pieces.symbols
    assert dictionary.unk() not in pieces.symbols
    assert dictionary.index("\u2581") in pieces.symbols
    words = pieces.words([dictionary.index(name) for name in names])
    assert sum(pieces.symbols.issuperset(word) for word in words) == len(words) - 1


class TestRefusals:
    def task(self, folder, sampling="0.2", **settings):
        return task_of(folder, sampling, **settings)

    @pytest.fixture
    def copy(self, unigram_data, tmp_path):
        """The data in pieces of a unigram model, without the model."""
        folder = tmp_path / "data/bin"
        folder.mkdir(parents=True)
        for path in Path(unigram_data).iterdir():
            if path.name != "spm.model":
                (folder / path.name).symlink_to(path)
        return folder

    def test_data_without_the_model(self, copy):
        with pytest.raises(
            InputError, match=f"--subword-sampling 0.2 needs the model .* bpe.codes in {copy} or beside"
        ):
            self.task(copy)
        with pytest.raises(InputError, match=r"--subword-model /no/spm.model: no such file"):
            self.task(copy, subword_model="/no/spm.model")

    def test_a_model_beside_the_data_is_found(self, copy, unigram_data):
        (copy.parent / "spm.model").symlink_to(Path(unigram_data) / "spm.model")
        assert self.task(copy).datasets["train"].sides["src"].ratio > 1

    @pytest.mark.parametrize("other", ["bpe", "subword_nmt"])
    def test_a_model_of_other_data(self, copy, data_of, other):
        model = Path(data_of[other]) / MODELS[other]
        message = rf"--subword-sampling 0.2: {model} is not the model of this data. Of \d+ words in en, \d+ have other"
        with pytest.raises(InputError, match=message):
            self.task(copy, subword_model=str(model))

    def test_a_file_that_is_no_model(self, copy, tmp_path):
        (tmp_path / "text").write_text("some text")
        with pytest.raises(InputError, match="is neither a model of SentencePiece nor codes of subword-nmt"):
            self.task(copy, subword_model=str(tmp_path / "text"))
        (tmp_path / "codes").write_text("#version: 0.1\na b\n")
        with pytest.raises(InputError, match=r"has codes of version: 0.1; only version 0.2"):
            self.task(copy, subword_model=str(tmp_path / "codes"))

    @pytest.mark.parametrize(
        ("kind", "strength", "message"),
        [
            (
                "unigram",
                "0",
                "--subword-sampling 0: it is the alpha of a unigram model .*give a positive number, or none",
            ),
            ("bpe", "1", "--subword-sampling 1: it is the dropout of BPE .*give a number between 0 and 1, or none"),
            ("subword_nmt", "-0.5", "--subword-sampling -0.5: it is the dropout of BPE"),
        ],
    )
    def test_a_strength_that_makes_no_sense(self, data_of, kind, strength, message):
        with pytest.raises(InputError, match=message):
            self.task(data_of[kind], strength)

    @pytest.mark.parametrize("setting", [{"num_batch_buckets": 2}])
    def test_flags_that_need_fixed_pieces(self, unigram_data, setting):
        with pytest.raises(InputError, match="cannot work with --num-batch-buckets, which needs the same pieces"):
            self.task(unigram_data, **setting)


class TestRuns:
    def test_processes_that_load_data_draw_the_pieces_of_each_epoch(self, unigram_data):
        """They live for several epochs, and give the batches that the training process would make itself."""

        def batches(workers):
            task = task_of(unigram_data, "0.1")
            iterator = task.get_batch_iterator(task.datasets["train"], max_tokens=300, num_workers=workers)
            return [[batch["net_input"]["src_tokens"] for batch in iterator.next_epoch_itr()] for _ in range(3)]

        alone, together = batches(0), batches(2)
        for ours, theirs in zip(alone, together, strict=True):
            assert all(torch.equal(first, second) for first, second in zip(ours, theirs, strict=True))
        sums = [sum(int(batch.sum()) for batch in epoch) for epoch in alone]
        assert len(set(sums)) == 3

    def test_a_run_in_parts_is_the_run_in_one(self, unigram_data, tmp_path, monkeypatch):
        """It is stopped in its second epoch."""
        flags = [*DRAWN, "--max-epoch", "2", "--no-epoch-checkpoints", "--disable-validation"]
        whole = train(unigram_data, tmp_path / "whole", *flags, command=b2t_train)
        updates = whole["optimizer_history"][-1]["num_updates"]
        stopped_at(updates - 1, monkeypatch, unigram_data, tmp_path / "parts", *flags)
        assert_same_run(whole, train(unigram_data, tmp_path / "parts", *flags, command=b2t_train))

    def test_a_yaml_file_has_the_flags(self, unigram_data):
        """fairseq-hydra-train knows them because it loads the plugin first, see the command in test_training.py."""
        overrides = [f"task.data={unigram_data}", "task.subword_sampling=none/0.2", "checkpoint.save_dir=run"]
        hydra_init("b2t_cycle_rev")
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "configs/hydra"), version_base="1.1"):
            cfg = compose("b2t_cycle_rev", overrides, return_hydra_config=True)
            (loading,) = Callbacks(cfg).callbacks
        assert type(loading) is Loading
        add_defaults(cfg)
        task = tasks.setup_task(cfg.task)
        task.load_dataset("train")
        assert task.datasets["train"].sides.keys() == {"tgt"}

    def test_other_data_is_refused_before_the_first_update(self, data, tmp_path):
        with pytest.raises(InputError, match=r"--subword-sampling 0.2 needs the model of the pieces"):
            train(data, tmp_path, *DRAWN, command=b2t_train)
        assert not list(tmp_path.glob("*.pt"))

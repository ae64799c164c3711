"""b2t shortlist: the probabilities of IBM Model 1, what is written, and that the commands translate with it."""

import shutil
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from fairseq.data import Dictionary
from training import binarize, train, write_corpus

from b2t_cli.generate import main as b2t_generate
from b2t_cli.shortlist import main as b2t_shortlist
from b2t_cli.shortlists import model_1
from b2t_cli.shortlists.model_1 import Model1, best_translations
from b2t_cli.shortlists.sentence_pairs import Side
from b2t_cli.translate import main as b2t_translate
from b2t_common.errors import InputError
from b2t_fairseq.decoding import shortlist
from b2t_fairseq.dictionaries import checksum
from b2t_fairseq.hub import from_pretrained

END, FIRST, NUM_SOURCES, NUM_TARGETS = 2, 4, 12, 14


def make_pairs(number=40, seed=0):
    """Return sentence pairs: target symbol n + 2 is the translation of source symbol n, in another order."""
    random = np.random.default_rng(seed)
    sources = [random.integers(FIRST, NUM_SOURCES, random.integers(1, 6)) for _ in range(number)]
    targets = [random.permutation(source) + 2 for source in sources]
    return [[*map(int, source), END] for source in sources], [[*map(int, target), END] for target in targets]


def side(sentences):
    return Side(np.concatenate(sentences).astype(np.uint16), np.array([len(sentence) for sentence in sentences]))


def model_of(sources, targets, iterations):
    model = Model1(side(sources), side(targets), NUM_SOURCES, NUM_TARGETS)
    for _ in range(iterations):
        model.iterate(FIRST)
    return model


def probabilities(model):
    """Return the probability of each target symbol given each source symbol."""
    found = np.zeros((NUM_SOURCES, NUM_TARGETS))
    for symbol, (sources, values) in enumerate(model.counts):
        found[sources, symbol] = values / model.totals[sources]
    return found


def expected_probabilities(sources, targets, iterations):
    """Return the same as the textbook computes it."""
    table = defaultdict(lambda: 1.0)
    for _ in range(iterations):
        counts, totals = defaultdict(float), defaultdict(float)
        for source, target in zip(sources, targets, strict=True):
            for symbol in target[:-1]:
                whole = sum(table[word, symbol] for word in source)
                for word in source:
                    counts[word, symbol] += table[word, symbol] / whole
                    totals[word] += table[word, symbol] / whole
        table = defaultdict(float, {pair: count / totals[pair[0]] for pair, count in counts.items()})
    found = np.zeros((NUM_SOURCES, NUM_TARGETS))
    for (word, symbol), probability in table.items():
        found[word, symbol] = probability
    return found


class TestModel1:
    @pytest.mark.parametrize("iterations", [1, 2, 4])
    def test_probabilities_are_those_of_the_textbook(self, iterations, monkeypatch):
        monkeypatch.setattr(model_1, "_SMALLEST_COUNT", 0)
        sources, targets = make_pairs()
        expected = expected_probabilities(sources, targets, iterations)
        assert np.allclose(probabilities(model_of(sources, targets, iterations)), expected, atol=1e-5)

    def test_translations_of_symbols_are_found(self):
        model = model_of(*make_pairs(), iterations=5)
        best = best_translations(model, np.array([], int), 3, END)
        assert best[FIRST:, 0].tolist() == list(range(FIRST + 2, NUM_TARGETS))
        assert (best[0] == END).all()

    def test_better_translations_come_first_and_unwanted_ones_do_not_come(self):
        model = model_of(*make_pairs(), iterations=3)
        best, found = best_translations(model, np.array([7]), 20, END), probabilities(model)
        assert 7 not in best
        for word in range(FIRST, NUM_SOURCES):
            symbols = [symbol for symbol in best[word] if symbol != END]
            assert all(found[word, one] >= found[word, other] for one, other in pairwise(symbols))
            assert set(symbols) == {s for s in range(FIRST, NUM_TARGETS) if found[word, s] >= 1e-5} - {7}

    def test_frequent_symbols_are_estimated_from_some_of_their_occurrences(self, monkeypatch):
        """Counts stay those of all occurrences."""
        sources, targets = make_pairs(2000)
        expected = probabilities(model_of(sources, targets, 3))
        monkeypatch.setattr(model_1, "OCCURRENCES", 300)
        model = model_of(sources, targets, 3)
        assert np.abs(probabilities(model) - expected).max() < 0.05
        assert model.totals.sum() == pytest.approx(sum(len(target) - 1 for target in targets), rel=0.01)

    def test_long_sentences_are_left_out(self, monkeypatch):
        sources, targets = make_pairs()
        expected = probabilities(model_of(sources, targets, 2))
        monkeypatch.setattr(model_1, "LONGEST", 8)
        more = [[5] * 9 + [END]], [[13] * 9 + [END]]
        found = probabilities(model_of(more[0] + sources, more[1] + targets, 2))
        assert np.array_equal(found, expected)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A corpus, its data, a model of a few updates, and a shortlist."""
    folder = tmp_path_factory.mktemp("shortlist")
    write_corpus(folder)
    data = binarize(folder)
    train(data, folder / "run", "--max-update", "12")
    b2t_shortlist([data, "--output", str(folder / "list.npz"), "--best", "2", "--frequent", "1"])
    return folder


def words_of(trained, language):
    return Dictionary.load(str(trained / f"bin/dict.{language}.txt"))


def test_the_file_has_what_was_asked_for(trained):
    found, target = shortlist.read(trained / "list.npz"), words_of(trained, "de")
    assert (found.source, found.target) == (checksum(words_of(trained, "en")), checksum(target))
    assert found.best.shape == (len(words_of(trained, "en")), 2)
    # fairseq sorts dictionaries by frequency
    assert target.count[found.frequent.item()] == max(target.count[target.nspecial :])


def test_commands_translate_with_candidates_only(trained, capsys):
    flags = [str(trained / "bin"), "--path", str(trained / "run/checkpoint_last.pt"), "--cpu", "--max-len-b", "20"]
    flags += ["--num-workers", "0", "--required-batch-size-multiple", "1", "--shortlist", str(trained / "list.npz")]
    b2t_generate(flags)
    output = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    found, source, target = shortlist.read(trained / "list.npz"), words_of(trained, "en"), words_of(trained, "de")
    sources = {fields[0][2:]: fields[1].split() for fields in output if fields[0].startswith("S-")}
    translations = {fields[0][2:]: fields[2].split() for fields in output if fields[0].startswith("H-")}
    assert translations
    for number, words in translations.items():
        allowed = {target[symbol] for word in [*sources[number], "</s>"] for symbol in found.best[source.index(word)]}
        allowed |= {target[symbol] for symbol in found.frequent}
        if found.source == found.target:
            allowed |= set(sources[number])
        assert set(words) <= allowed | {"<unk>", "<s>"}
    hub = from_pretrained(
        trained / "run", "checkpoint_last.pt", trained / "bin", shortlist=trained / "list.npz", max_len_b=20
    )
    texts = [" ".join(words) for words in sources.values()]
    assert hub.translate(texts, max_len_b=20) == [" ".join(words) for words in translations.values()]
    with pytest.raises(InputError, match="does not work with --score-reference"):
        hub.score(texts[:1])


def test_lines_of_a_text_are_translated_with_candidates_only(trained, tmp_path):
    text = str(tmp_path / "text.en")
    shutil.copy(trained / "test.en", text)
    flags = [str(trained / "run/checkpoint_last.pt"), text, "--data", str(trained / "bin"), "--cpu", "--pieces"]
    lists = ["--shortlist", str(trained / "list.npz")]
    outputs = [tmp_path / name for name in ("all.de", "few.de")]
    for output, more in zip(outputs, ([], lists), strict=True):
        b2t_translate([*flags, "--output", str(output), "--max-len-a", "1", "--max-len-b", "3", *more])
    found, target = shortlist.read(trained / "list.npz"), words_of(trained, "de")
    allowed = {target[symbol] for symbol in [*found.best.unique().tolist(), *found.frequent.tolist()]} | {
        "<unk>",
        "<s>",
    }
    assert outputs[0].read_text() != outputs[1].read_text()
    assert set(outputs[1].read_text().split()) <= allowed | set((tmp_path / "text.en").read_text().split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--best", "0"], "--best 0: give a positive number"),
        (["--source-lang", "en"], "--source-lang and --target-lang belong together"),
        (["--subset", "training"], "has no training.en-de.en.bin"),
        (["-s", "en", "-t", "fr"], "dict.fr.txt: there is no such dictionary"),
    ],
)
def test_what_cannot_work_is_refused(trained, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        b2t_shortlist([str(trained / "bin"), "--output", str(tmp_path / "list.npz"), *flags])
    assert not list(tmp_path.iterdir())


def test_data_without_a_line_are_refused_in_one_line(trained, tmp_path):
    """As b2t train and b2t generate refuse them: a patch of fairseq's function that opens data."""
    folder = shutil.copytree(trained / "bin", tmp_path / "bin")
    (folder / "train.en-de.en.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"train\.en-de\.en\.bin is empty: fairseq-preprocess got a text"):
        b2t_shortlist([str(folder), "--output", str(tmp_path / "list.npz")])


def test_missing_folders_are_refused(trained, tmp_path):
    with pytest.raises(InputError, match="there is no such folder of binarized data"):
        b2t_shortlist([str(tmp_path / "nowhere"), "--output", str(tmp_path / "list.npz")])
    with pytest.raises(InputError, match="cannot be written: there is no folder"):
        b2t_shortlist([str(trained / "bin"), "--output", str(tmp_path / "no/list.npz")])
    with pytest.raises(InputError, match=r"shortlist .*nothing.npz: no such file"):
        b2t_generate([str(trained / "bin"), "--path", __file__, "--shortlist", str(tmp_path / "nothing.npz"), "--cpu"])

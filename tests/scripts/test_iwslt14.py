"""IWSLT14 German-English: from the archive to training, validation and test text, and to the table of scores."""

import json
import re

import iwslt14
import pytest
from commands import script
from helpers import ROOT
from iwslt import ARCHIVE, FIT, LINES, SETS, UNFIT, held_out_pairs, members, prepare, training_pairs, write_archive
from iwslt import write_lines_table as write_table
from unpack import UnusableArchive
from wmt import SMALL_CONFIG

from b2t_cli.scoring.moses import PerlTokenizer
from b2t_common.errors import InputError

SMALL_RUN = SMALL_CONFIG.replace("--by updates --last 2", "--by epochs --last 1")


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def expected_lines(folder, **other):
    return iwslt14.read_table(write_table(folder / "lines.tsv", **other))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a blank in its name that has the archive on a mirror, and its table of lines."""
    folder = tmp_path_factory.mktemp("small talks")
    write_archive(folder / "mirror" / ARCHIVE)
    write_table(folder / "lines.tsv")
    return folder


def test_the_table_has_the_papers_numbers_of_lines():
    table = iwslt14.read_table(ROOT / "scripts/corpus/iwslt14_lines.tsv")
    assert (table["train"], table["valid"], table["iwslt14"]) == (160_239, 7_283, 6_750)
    assert sum(table[name] for name in iwslt14.TEST_SETS) == table["iwslt14"]
    assert (table["train"] + table["valid"]) // iwslt14.VALIDATION_DISTANCE == table["valid"]


class TestExtract:
    def test_text_without_tags(self, small, tmp_path):
        """Titles, descriptions and sentences stay, in order; addresses, keywords and numbers of talks do not."""
        counts = iwslt14.extract(small / "mirror" / ARCHIVE, tmp_path / "raw", expected_lines(tmp_path))
        assert counts == {"train.tags": LINES, **SETS}
        for side, language in enumerate(("de", "en")):
            assert lines(tmp_path / f"raw/train.{language}") == [pair[side].strip() for pair in training_pairs()]
            assert lines(tmp_path / f"raw/iwslt14.{language}") == [pair[side] for pair in held_out_pairs()]
        assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
            f"{name}.{language}" for name in ("iwslt14", "train") for language in ("de", "en")
        ]

    def test_curly_apostrophes_become_straight_in_test_text_only(self):
        """As in fairseq's recipe."""
        assert list(iwslt14.segments(["<doc>", '<seg id="12"> It\u2019s  so </seg>\n', "</doc>"])) == ["It's so"]
        assert list(iwslt14.training_text(["<url>x</url>", "<title>It\u2019s</title>\n"])) == ["It\u2019s"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda files: files.pop("de-en/IWSLT14.TEDX.dev2012.de-en.en.xml"),
                r"not hold .*TEDX\.dev2012.*\.en\.xml",
            ),
            (lambda files: [files.pop(n) for n in list(files)], "it has no file"),
            (
                lambda files: files.update({"de-en/train.tags.de-en.en": "<title>One</title>\n"}),
                f"train.tags.de-en.en has 1 lines of text, not {LINES}: this is not the published text",
            ),
            (
                lambda files: files.update({"de-en/IWSLT14.TED.tst2011.de-en.de.xml": '<seg id="1"> x </seg>\n'}),
                "tst2011.de-en.de.xml has 1 lines of text, not 6",
            ),
            (
                lambda files: files.update({"de-en/train.tags.de-en.de": "gr\u00fcn\n".encode("latin-1")}),
                "train.tags.de-en.de is not UTF-8 in line 1",
            ),
        ],
    )
    def test_another_archive_is_refused(self, tmp_path, change, message):
        files = members()
        change(files)
        archive = write_archive(tmp_path / "de-en.tgz", files)
        with pytest.raises(UnusableArchive, match=message):
            iwslt14.extract(archive, tmp_path / "raw", expected_lines(tmp_path))
        assert not list((tmp_path / "raw").iterdir())

    def test_another_language_pair_is_named(self, tmp_path):
        archive = write_archive(tmp_path / "de-en.tgz", members("en-fr"))
        with pytest.raises(UnusableArchive, match=r"does not hold de-en/train\.tags.*; it has files in en-fr$"):
            iwslt14.extract(archive, tmp_path / "raw", expected_lines(tmp_path))

    def test_an_archive_that_is_cut_is_refused(self, small, tmp_path):
        whole = (small / "mirror" / ARCHIVE).read_bytes()
        (tmp_path / "de-en.tgz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UnusableArchive, match="cut short or damaged"):
            iwslt14.extract(tmp_path / "de-en.tgz", tmp_path / "raw", expected_lines(tmp_path))


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ("a b", "a b c", True),
        ("a b", "a b c d", False),
        ("a b c d e", "a b c d e f g", True),
        ("a b c d e", "a b c d e f g h", False),
        ("a", "", False),
        ("", "", False),
        ("w " * 175, "w " * 175, True),
        ("w " * 176, "w " * 175, False),
        ("w" * 1000, "w", True),
        ("w" * 1001, "w", False),
    ],
)
def test_pairs_are_left_out_as_by_moses_clean_corpus_n(source, target, kept):
    """1 to 175 tokens, at most 1.5 times as many as the other side, no token of more than 1,000 characters."""
    assert iwslt14.is_kept(source, target) == iwslt14.is_kept(target, source) == kept


class TestPerlTokenizer:
    """Expected tokens are those of tokenizer.perl (November 2018) on the same lines."""

    @pytest.mark.parametrize(
        ("language", "line", "tokens"),
        [
            ("en", "So am I.", "So am I ."),
            ("en", "He came at 10.", "He came at 10 ."),
            ("en", "Mr. Smith's re-run: 5.0 or 5,000?", "Mr. Smith &apos;s re-run : 5.0 or 5,000 ?"),
            ("en", "Wait... what...", "Wait ... what ..."),
            ("en", "the U.S. and the U.S.", "the U.S. and the U.S ."),
            ("de", "Das ist z.B. das iPhone 5.", "Das ist z.B. das iPhone 5 ."),
            ("de", "Ich mach\u2019s & gut", "Ich mach \u2019 s &amp; gut"),
            ("en", "the Dao \u9053\u5fb7 (way)", "the Dao \u9053\u5fb7 ( way )"),
            ("en", "", ""),
            ("en", ".", "."),
        ],
    )
    def test_tokens_are_those_of_perl(self, language, line, tokens):
        assert PerlTokenizer(language)(line) == tokens


class TestSplit:
    @pytest.fixture
    def raw(self, small, tmp_path):
        """The folder of ``extract``, with tokens: the text as it is, since its words are separated by blanks."""
        folder = tmp_path / "raw"
        iwslt14.extract(small / "mirror" / ARCHIVE, folder, expected_lines(tmp_path))
        (folder / "tokens").mkdir()
        for path in list(folder.glob("*.*")):
            (folder / "tokens" / path.name).write_bytes(path.read_bytes())
        return folder

    def test_every_23rd_kept_pair_is_for_validation(self, raw, tmp_path):
        iwslt14.split(raw, tmp_path, expected_lines(tmp_path))
        kept = [pair for pair in training_pairs() if pair not in UNFIT]
        assert len(kept) == FIT
        parts = {"valid": kept[22::23], "train": [pair for i, pair in enumerate(kept) if i % 23 != 22]}
        for name, expected in parts.items():
            for side, language in enumerate(("de", "en")):
                text = [pair[side] for pair in expected]
                assert lines(tmp_path / f"clean/{name}.{language}") == text
                assert lines(tmp_path / f"tokens/{name}.{language}") == [line.lower() for line in text]
        for side, language in enumerate(("de", "en")):
            text = [pair[side] for pair in held_out_pairs()]
            assert lines(tmp_path / f"test/iwslt14.{language}") == text
            assert lines(tmp_path / f"tokens/iwslt14.{language}") == [line.lower() for line in text]

    def test_another_number_of_pairs_is_refused(self, raw, tmp_path):
        """Nothing is written."""
        expected = expected_lines(tmp_path, train=FIT, iwslt14=6750)
        with pytest.raises(
            InputError, match=rf"train has {FIT - FIT // 23} pairs, not {FIT}; iwslt14 has 25 .* 6,750:"
        ):
            iwslt14.split(raw, tmp_path, expected)
        assert not [path for path in tmp_path.glob("*/train.*") if path.parent != raw]

    @pytest.mark.parametrize(
        ("content", "message"),
        [("train\tmany\n", "train many is not a name and a number"), ("train\t5\n", "has no number for train.tags")],
    )
    def test_a_damaged_table_is_refused(self, tmp_path, content, message):
        (tmp_path / "lines.tsv").write_text(content)
        with pytest.raises(InputError, match=message):
            iwslt14.read_table(tmp_path / "lines.tsv")


class TestScript:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tokenization", "words"], "--tokenization words: choose"),
            (["--vocabulary", "many"], "many is not a whole number"),
            (["--archives", "/nowhere"], "/nowhere: no such folder"),
            (["--lines", "/nowhere"], "--lines /nowhere: no such file"),
            (["--langs", "en-fr"], "unknown option --langs"),
        ],
    )
    def test_wrong_options_are_refused(self, small, tmp_path, arguments, message):
        result = prepare(small, tmp_path / "out", *arguments, check=False)
        assert result.returncode == 1
        assert message in result.stdout
        assert not (tmp_path / "out").exists()

    def test_an_archive_of_ones_own_that_is_another_is_kept(self, small, tmp_path):
        archive = write_archive(tmp_path / "archives/de-en.tgz", members("en-de"))
        result = prepare(small, tmp_path / "out", "--archives", tmp_path / "archives", check=False)
        assert result.returncode == 1
        assert "it has files in en-de" in result.stdout
        assert f"{archive} cannot be used, see above; replace it" in result.stdout
        assert archive.exists()


@pytest.mark.slow
def test_from_the_archive_to_the_table(small, tmp_path):
    """As a researcher types it: prepare, train with two seeds, evaluate, one table."""
    data = tmp_path / "data"
    prepare(small, data)
    assert prepare(small, data).stdout.count("done before") == 5
    text = lines(data / "tokens/train.de")
    assert [line.replace("@@ ", "") for line in lines(data / "pieces/train.de")] == text
    assert all(line == line.lower() for line in text)
    (tmp_path / "small.sh").write_text(SMALL_RUN)
    arguments = ["--seeds", "1 2", "--out", tmp_path / "sweep", "--data", data / "bin"]
    result = script("sweep.sh", *arguments, tmp_path / "small.sh", "--", "--cpu", "--log-interval", "2")
    assert re.search(r"configuration +seeds +parameters +speed +iwslt14 tokenized BLEU +iwslt14 BLEU\n", result.stdout)
    assert re.search(r"ResiDual, 12L-12L .* 36\.09 +- +-\n", result.stdout)
    table = json.loads((tmp_path / "sweep/table.json").read_text())["configurations"]
    assert [len(row["tokenized_bleu"]["iwslt14"]["values"]) for row in table] == [2]
    run = tmp_path / "sweep/small/seed1/evaluation"
    scores = json.loads((run / "scores.json").read_text())
    assert "case:lc" in scores["sets"]["iwslt14"]["metrics"]["BLEU"]["signature"]
    assert len(lines(run / "iwslt14.en")) == sum(SETS.values())
    assert "'beam': 2" in (run / "iwslt14.generated.txt").read_text()


@pytest.mark.slow
def test_sentencepiece_keeps_upper_case(small, tmp_path):
    prepare(small, tmp_path / "data", "--tokenization", "sentencepiece")
    pieces = lines(tmp_path / "data/pieces/valid.en")
    text = [line.replace(" ", "").replace("\u2581", " ").strip() for line in pieces]
    assert text == lines(tmp_path / "data/clean/valid.en")
    assert any(line != line.lower() for line in text)
    (tmp_path / "config.sh").write_text(SMALL_RUN)
    arguments = ("--data", tmp_path / "data/bin", "--save-dir", tmp_path / "run", "--cpu")
    script("train.sh", tmp_path / "config.sh", *arguments)
    script("evaluate.sh", tmp_path / "run", "--cpu", "--max-len-b", "12")
    metrics = json.loads((tmp_path / "run/evaluation/scores.json").read_text())["sets"]["iwslt14"]["metrics"]
    assert "case:mixed" in metrics["BLEU"]["signature"]
    assert "case:lc" in metrics["tokenized BLEU"]["signature"]
    assert "tok:none" in metrics["tokenized BLEU"]["signature"]

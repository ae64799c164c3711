"""Cleaning parallel text keeps or drops whole pairs, whatever characters are in the text."""

import gzip

import clean
import pytest
import streams
from disk import full_after


def write_sides(folder, source, target):
    (folder / "text.en").write_bytes(source)
    (folder / "text.de").write_bytes(target)
    return folder / "text"


def cleaned(folder, source, target, **limits):
    """Return the pairs that are kept, and how many were dropped for which reason."""
    prefix = write_sides(folder, source, target)
    report = clean.clean_corpora(folder / "clean", [prefix], ["en", "de"], clean.Limits(**limits), workers=1)
    sides = [(folder / f"clean.{language}").read_bytes().decode().split("\n")[:-1] for language in ("en", "de")]
    return list(zip(*sides, strict=True)), report["text"]


@pytest.mark.parametrize(
    "separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x00", "\r", "\ufeff", "\u00a0", "\t"]
)
def test_only_lf_ends_a_line(tmp_path, separator):
    """Other separators of Unicode become blanks, so that the two sides keep the same lines."""
    lines = [f"one{separator}two", "three", f"four{separator}"]
    source = "".join(f"{line}\n" for line in lines).encode()
    kept, counts = cleaned(tmp_path, source, b"eins zwei\ndrei\nvier\n")
    assert kept == [("one two", "eins zwei"), ("three", "drei"), ("four", "vier")]
    assert counts == {"pairs": 3, "kept": 3}


def test_windows_line_ends_and_a_last_line_without_an_end_are_read(tmp_path):
    kept, _ = cleaned(tmp_path, b"one\r\ntwo\r\nthree", b"eins\nzwei\ndrei\n")
    assert kept == [("one", "eins"), ("two", "zwei"), ("three", "drei")]


def test_unfit_pairs_are_dropped_and_counted(tmp_path):
    """Dropped are pairs that are empty, not UTF-8, too long, or of too different lengths."""
    source = [b"one", b"caf\xe9", b"", b"   ", b"x" * 100_000, b"w " * 81, b"a", b"last"]
    target = [b"eins", b"zwei", b"drei", b"vier", b"lang", b"viele", b"b " * 10, b"letzte"]
    kept, counts = cleaned(tmp_path, b"\n".join(source) + b"\n", b"\n".join(target) + b"\n")
    assert kept == [("one", "eins"), ("last", "letzte")]
    reasons = {"empty": 2, "lengths too different": 1, "not UTF-8": 1, "too long": 2}
    assert counts == {"pairs": 8, "kept": 2, **reasons}


def test_the_limits_are_inclusive(tmp_path):
    """A pair whose ratio of lengths is the limit, or whose number of words is, is kept."""
    source, target = b"a b c\na b\n", b"a b c\na b c\n"
    assert cleaned(tmp_path, source, target, max_ratio=1.4)[0] == [("a b c", "a b c")]
    assert cleaned(tmp_path, source, target, max_ratio=1.5)[0] == [("a b c", "a b c"), ("a b", "a b c")]
    assert cleaned(tmp_path, b"a b c\na b\n", b"a b c\na b\n", max_words=2)[0] == [("a b", "a b")]


@pytest.mark.parametrize("missing", [1, 25_000])
def test_sides_with_different_numbers_of_lines_are_refused(tmp_path, missing):
    """The message has both numbers, even where one side ends many blocks before the other."""
    (tmp_path / "clean.en").write_text("an older file\n")
    prefix = write_sides(tmp_path, b"a\n" * 30_000, b"a\n" * (30_000 - missing))
    with pytest.raises(ValueError, match=rf"text.en 30000, .*text.de {30_000 - missing}"):
        clean.clean_corpora(tmp_path / "clean", [prefix], ["en", "de"], clean.Limits(), workers=1)
    assert (tmp_path / "clean.en").read_text() == "an older file\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.en", "text.de", "text.en"]


def test_text_of_which_nothing_is_left_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of 2 pairs is suitable"):
        cleaned(tmp_path, b"\n\n", b"a\nb\n")


def test_corpora_with_the_same_name_are_counted_apart(tmp_path):
    """Even where an earlier one of the same name has suitable pairs, one without any is refused."""
    folders = [tmp_path / name for name in ("first", "second")]
    for folder, source in zip(folders, (b"one\n", b"one\ntwo\n"), strict=True):
        folder.mkdir()
        write_sides(folder, source, source)
    prefixes = [folder / "text" for folder in (*folders, folders[1])]
    arguments = (["en", "de"], clean.Limits(), 1)
    report = clean.clean_corpora(tmp_path / "clean", prefixes, *arguments)
    assert {name: counts["kept"] for name, counts in report.items()} == {str(prefixes[0]): 1, str(prefixes[1]): 4}
    write_sides(folders[1], b"\n", b"a\n")
    with pytest.raises(ValueError, match="second/text: none of 1 pairs is suitable"):
        clean.clean_corpora(tmp_path / "clean", prefixes, *arguments)


def test_packed_text_that_is_cut_short_is_refused(tmp_path):
    for language in ("en", "de"):
        with gzip.open(tmp_path / f"text.{language}.gz", "wb") as file:
            file.write(b"".join(b"line %d\n" % i for i in range(20_000)))
    whole = (tmp_path / "text.de.gz").read_bytes()
    (tmp_path / "text.de.gz").write_bytes(whole[:-1000])
    with pytest.raises(OSError, match=r"text\.de\.gz is cut short or damaged"):
        clean.clean_corpora(tmp_path / "clean", [tmp_path / "text"], ["en", "de"], clean.Limits(), workers=1)


def test_several_workers_keep_the_order_of_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAX_LINES", 7)
    lines = b"".join(b"line %d\n" % i for i in range(1000))
    prefix = write_sides(tmp_path, lines, lines)
    clean.clean_corpora(tmp_path / "clean", [prefix], ["en", "de"], clean.Limits(), workers=4)
    assert (tmp_path / "clean.en").read_bytes() == (tmp_path / "clean.de").read_bytes() == lines


def test_a_full_disk_leaves_no_half_file(tmp_path):
    text = b"many words here\n" * 5000
    prefix = write_sides(tmp_path, text, text)
    with full_after(20_000), pytest.raises(OSError, match="File too large"):
        clean.clean_corpora(tmp_path / "clean", [prefix], ["en", "de"], clean.Limits(), workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.de", "text.en"]

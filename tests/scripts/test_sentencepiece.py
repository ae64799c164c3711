"""SentencePiece: the same text gives the same model, and a line of text stays one line of pieces."""

import itertools
import subprocess
import sys

import pytest
import spm
import streams
from helpers import ROOT
from wmt import pairs


def test_the_same_text_gives_the_same_model(tmp_path):
    """Neither the folder nor the file's name gets into the model."""
    models = []
    for name in ("first", "second one"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.en").write_text("".join(f"{line}\n" for line, _ in pairs(200, 1)))
        spm.train(folder / "spm", [folder / f"{name}.en"], 60, "bpe")
        models.append((folder / "spm.model").read_bytes())
    assert models[0] == models[1]


@pytest.mark.parametrize(("total", "take"), [(10, 3), (10, 10), (7, 20), (25_000, 100)])
def test_sampled_lines_are_spread_evenly_over_all_files(tmp_path, total, take):
    files = [tmp_path / "a", tmp_path / "b"]
    files[0].write_text("".join(f"{i}\n" for i in range(total // 2)))
    files[1].write_text("".join(f"{i}\n" for i in range(total // 2, total)))
    chosen = [int(line) for line in spm.sample(files, take)]
    assert len(chosen) == min(total, take)
    steps = [b - a for a, b in itertools.pairwise(chosen)]
    assert max(steps) - min(steps) <= 1


def test_memory_does_not_grow_with_the_text(tmp_path):
    """Of an endless text only a few blocks more than were asked for are read."""
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield read

    results = streams.parallel_map(str, endless(), workers=2)
    assert [next(results) for _ in range(20)] == [str(i) for i in range(1, 21)]
    assert read <= 26
    results.close()


def test_a_tag_is_one_piece(tmp_path):
    """It is in the dictionary for fairseq, and the pieces of other words are not."""
    (tmp_path / "text").write_text("a b c d e\n" * 50)
    spm.train(tmp_path / "spm", [tmp_path / "text"], vocab_size=13, model_type="bpe", tags=["<BT>"])
    (tmp_path / "tagged").write_text("<BT> a b\n")
    spm.encode(tmp_path / "spm.model", tmp_path / "tagged", tmp_path / "pieces")
    assert (tmp_path / "pieces").read_text().split()[-3:] == ["<BT>", "\u2581a", "\u2581b"]
    assert "<BT> 1" in (tmp_path / "spm.dict.txt").read_text().splitlines()


def test_text_is_encoded_line_by_line(tmp_path):
    """Only LF ends a line; any other separator of Unicode would shift one language against the other."""
    (tmp_path / "text").write_text("a b c d e\n" * 50)
    spm.train(tmp_path / "spm", [tmp_path / "text"], vocab_size=12, model_type="bpe")
    (tmp_path / "odd").write_text("a\u2028b\nc\x85d\r\n\ne\n", newline="")
    assert spm.encode(tmp_path / "spm.model", tmp_path / "odd", tmp_path / "pieces") == 4
    assert (tmp_path / "pieces").read_bytes().count(b"\n") == 4


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "text").write_text("a b c d e\n" * 50)
    spm.train(tmp_path / "spm", [tmp_path / "text"], vocab_size=12, model_type="bpe")
    (tmp_path / "latin1").write_bytes("schön\n".encode("latin-1"))
    encode = [sys.executable, str(ROOT / "scripts/corpus/spm.py"), "encode", str(tmp_path / "spm.model")]
    result = subprocess.run([*encode, str(tmp_path / "latin1"), str(tmp_path / "out")], capture_output=True, text=True)
    assert result.returncode == 1
    assert "latin1 is not UTF-8" in result.stderr
    assert not list(tmp_path.glob("out*"))


def test_too_little_text_is_refused(tmp_path):
    """A vocabulary of 4,000 pieces cannot be learnt from one letter, and no half model is left."""
    (tmp_path / "text").write_text("a\n")
    train_it = [sys.executable, str(ROOT / "scripts/corpus/spm.py"), "train", str(tmp_path / "spm")]
    result = subprocess.run([*train_it, str(tmp_path / "text"), "--vocab-size", "4000"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "error: " in result.stderr
    assert not list(tmp_path.glob("spm*"))

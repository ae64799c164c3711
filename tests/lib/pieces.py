"""A small corpus of words made of syllables, and its binary data in pieces of SentencePiece or of subword-nmt."""

from __future__ import annotations

import random
from pathlib import Path

import sentencepiece
import spm
from training import preprocess_pieces

SYLLABLES = ("ba", "ki", "lo", "mu", "ne", "ra", "si", "to", "wa", "zu")
VOCABULARY = 50
MODELS = {"unigram": "spm.model", "bpe": "spm.model", "subword_nmt": "bpe.codes"}
"""The kinds of pieces, and the names of their models."""


def write_words(folder: Path) -> None:
    """Write 150 pairs to train on, and 12 to validate and to test; a target is its source reversed, word by word."""
    generator = random.Random(5)
    words = ["".join(generator.choices(SYLLABLES, k=generator.randint(1, 4))) for _ in range(40)]
    for split, lines in (("train", 150), ("valid", 12), ("test", 12)):
        with open(folder / f"{split}.en", "w") as source, open(folder / f"{split}.de", "w") as target:
            for _ in range(lines):
                sentence = generator.choices(words, k=generator.randint(2, 6))
                source.write(" ".join(sentence) + "\n")
                target.write(" ".join(reversed(sentence)) + "\n")


def binarize_pieces(folder: Path, kind: str) -> str:
    """Cut the corpus in ``folder`` into pieces and binarize them; return the folder of the data, with its model."""
    pieces = folder / kind
    pieces.mkdir()
    cut, dictionary = _learn_subword_nmt(folder, pieces) if kind == "subword_nmt" else _learn(folder, pieces, kind)
    for split in ("train", "valid", "test"):
        for language in ("en", "de"):
            lines = (folder / f"{split}.{language}").read_text().splitlines()
            (pieces / f"{split}.{language}").write_text("".join(cut(line) + "\n" for line in lines))
    data = preprocess_pieces(pieces, *dictionary)
    (pieces / MODELS[kind]).rename(Path(data) / MODELS[kind])
    return data


def _learn(folder: Path, pieces: Path, kind: str):
    spm.train(pieces / "spm", [folder / "train.en", folder / "train.de"], VOCABULARY, kind)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces / "spm.model"))
    return lambda line: " ".join(processor.encode(line, out_type=str)), ["--srcdict", str(pieces / "spm.dict.txt")]


def _learn_subword_nmt(folder: Path, pieces: Path):
    import moses_bpe
    from subword_nmt.apply_bpe import BPE

    moses_bpe.learn(pieces / "bpe.codes", [folder / "train.en", folder / "train.de"], 30, workers=1)
    with open(pieces / "bpe.codes", encoding="utf-8") as codes:
        return BPE(codes).segment, []

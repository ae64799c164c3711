"""The models of pieces: SentencePiece's of both kinds, and the codes of subword-nmt; what of a sentence is a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairseq.data import Dictionary

from b2t_common.errors import InputError
from b2t_common.files import read_lines
from b2t_common.run_folder import BPE_CODES, SENTENCEPIECE

from .merging import Merging
from .unigram import Unigram

_SPACE = "\u2581"
"""SentencePiece writes it for the blank before a word."""
_GOES_ON, _END = "@@", "</w>"
"""How subword-nmt marks a piece whose word goes on, and in its codes one that ends its word."""


class Pieces:
    """The model of pieces with the dictionary of the data.

    Attributes:
        path: the file.
        sampler: draws the pieces of a word.
        symbols: the symbols of the dictionary that the sampler knows; words with others stay as they are.
    """

    def __init__(self, path: Path, sampler: Unigram | Merging, dictionary: Dictionary, symbols: set[int]) -> None:
        self.path, self.sampler, self.symbols = path, sampler, symbols
        self._names = dictionary.symbols

    def named(self, word: Sequence[int]) -> str:
        """Return the names of symbols, with blanks between them."""
        return " ".join(self._names[symbol] for symbol in word)

    def words(self, sentence: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the symbols of a sentence, word by word."""
        raise NotImplementedError

    def text(self, word: Sequence[int]) -> str:
        """Return the text of the pieces of a word."""
        raise NotImplementedError


class SentencePieces(Pieces):
    """Pieces of SentencePiece.  Where some contain a blank, all of a sentence is one word."""

    def __init__(self, path: Path, sampler: Unigram | Merging, dictionary: Dictionary, symbols: set[int]) -> None:
        super().__init__(path, sampler, dictionary, symbols)
        self._begins = {index for index, name in enumerate(self._names) if name.startswith(_SPACE)}
        self._is_one_word = any(_SPACE in self._names[index][1:] for index in symbols)

    def words(self, sentence: Sequence[int]) -> list[tuple[int, ...]]:
        if self._is_one_word or not sentence:
            return [tuple(sentence)] if sentence else []
        begins = [place for place, symbol in enumerate(sentence) if symbol in self._begins or place == 0]
        return [tuple(sentence[begin:end]) for begin, end in zip(begins, [*begins[1:], None], strict=True)]

    def text(self, word: Sequence[int]) -> str:
        return "".join(self._names[symbol] for symbol in word)


class MarkedPieces(Pieces):
    """Pieces of subword-nmt."""

    def __init__(self, path: Path, sampler: Unigram | Merging, dictionary: Dictionary, symbols: set[int]) -> None:
        super().__init__(path, sampler, dictionary, symbols)
        self._goes_on = {index for index, name in enumerate(self._names) if name.endswith(_GOES_ON)}

    def words(self, sentence: Sequence[int]) -> list[tuple[int, ...]]:
        ends = [place + 1 for place, symbol in enumerate(sentence) if symbol not in self._goes_on]
        if sentence and ends[-1:] != [len(sentence)]:
            ends.append(len(sentence))
        return [tuple(sentence[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]

    def text(self, word: Sequence[int]) -> str:
        names = [self._names[symbol] for symbol in word]
        return "".join(name.removesuffix(_GOES_ON) for name in names[:-1]) + names[-1]


def find(folder: Path) -> Path | None:
    """Return the model of the data in a folder: in it, or beside it; ``None`` if there is none."""
    candidates = [where / name for where in (folder, folder.parent) for name in (SENTENCEPIECE, BPE_CODES)]
    return next((path for path in candidates if path.is_file()), None)


def read(path: Path, dictionary: Dictionary, strength: float) -> Pieces:
    """Return a model of pieces.

    Args:
        path: SentencePiece's model, or the codes of subword-nmt.
        dictionary: of the data.
        strength: alpha of a unigram model, or the probability with which a merge of BPE is left out.

    Raises:
        InputError: the file is no such model, or the strength makes no sense for its kind.
    """
    indices = {name: index for index, name in enumerate(dictionary.symbols) if index >= dictionary.nspecial}
    with open(path, "rb") as file:
        is_text = file.read(10).startswith(b"#version: ")
    return _subword_nmt(path, dictionary, indices, strength) if is_text else _spm(path, dictionary, indices, strength)


def _spm(path: Path, dictionary: Dictionary, indices: dict[str, int], strength: float) -> Pieces:
    import sentencepiece

    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} is neither a model of SentencePiece nor codes of subword-nmt ({error})") from None
    numbers = range(model.get_piece_size())
    flags = (model.is_control, model.is_unknown, model.is_unused, model.is_byte)
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in numbers if not any(flag(i) for flag in flags)]
    # Pieces of the user come first, with the score 0.  BPE gives its own pieces the scores 0, -1, -2, ...; a unigram
    # model gives them logarithms of probabilities.
    zeros = next((place for place, (_, score) in enumerate(pieces) if score), len(pieces))
    is_bpe = zeros > 0 and all(score == zeros - 1 - place for place, (_, score) in enumerate(pieces[zeros:], zeros))
    scores = dict(pieces[zeros - is_bpe :])
    symbols = {indices[piece] for piece in scores if piece in indices}
    if not is_bpe:
        _require(path, "alpha of a unigram model", strength, strength > 0, "a positive number")
        return SentencePieces(path, Unigram(scores, indices, strength), dictionary, symbols)
    _require(path, "dropout of BPE", strength, 0 < strength < 1, "a number between 0 and 1")
    ranks = {piece: -score for piece, score in scores.items()}
    sampler = Merging(lambda a, b: ranks.get(a + b), list, lambda pieces: pieces, indices, strength)
    return SentencePieces(path, sampler, dictionary, symbols)


def _subword_nmt(path: Path, dictionary: Dictionary, indices: dict[str, int], strength: float) -> Pieces:
    version, *lines = read_lines(path)
    if version != "#version: 0.2":
        raise InputError(f"{path} has codes of {version.removeprefix('#')}; only version 0.2 of subword-nmt is known")
    _require(path, "dropout of BPE", strength, 0 < strength < 1, "a number between 0 and 1")
    ranks = {tuple(line.split(" ")): number for number, line in reversed(list(enumerate(lines)))}
    sampler = Merging(
        lambda a, b: ranks.get((a, b)),
        lambda word: [*word[:-1], word[-1] + _END],
        lambda pieces: [*(piece + _GOES_ON for piece in pieces[:-1]), pieces[-1].removesuffix(_END)],
        indices,
        strength,
    )
    return MarkedPieces(path, sampler, dictionary, set(indices.values()))


def _require(path: Path, what: str, value: float, is_right: bool, expected: str) -> None:
    if not is_right:
        raise InputError(f"--subword-sampling {value:g}: it is the {what} ({path}); give {expected}, or none")

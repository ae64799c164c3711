"""From text to the symbols of fairseq's dictionaries, and back: SentencePiece, or Moses tokens with BPE."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedTokenizer

BEGIN, PADDING, END = "<s>", "<pad>", "</s>"


class B2TTokenizer(PreTrainedTokenizer):
    """Splits source sentences, and as ``text_target`` target sentences; ``decode`` reads target symbols.

    Args:
        source_file: JSON list of the source symbols, in their order.
        target_file: that of the target symbols.
        pieces_file: a SentencePiece model.
        codes_file: codes of subword-nmt, applied to Moses tokens; in place of ``pieces_file``.
        source_lang: language of the sources, such as ``en``, for Moses.
        target_lang: language of the targets, for Moses.
        lower_case: make Moses tokens lower-case.
        **kwargs: settings of all tokenizers of transformers.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        "source_file": "source_symbols.json",
        "target_file": "target_symbols.json",
        "pieces_file": "spm.model",
        "codes_file": "bpe.codes",
    }
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]

    def __init__(
        self,
        source_file: str,
        target_file: str,
        pieces_file: str | None = None,
        codes_file: str | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
        lower_case: bool = False,
        **kwargs: Any,
    ) -> None:
        self.files = {"source_file": source_file, "target_file": target_file}
        self.symbols = {side: json.loads(Path(path).read_text("utf-8")) for side, path in self.files.items()}
        self.ids = {side: {symbol: i for i, symbol in enumerate(symbols)} for side, symbols in self.symbols.items()}
        self.side = "source_file"
        self.languages = {"source_file": source_lang, "target_file": target_lang}
        subwords = {"pieces_file": pieces_file, "codes_file": codes_file}
        self.files |= {name: path for name, path in subwords.items() if path is not None}
        self.lower_case = lower_case
        self.splitter = self.build_splitter()
        special = {"bos_token": BEGIN, "pad_token": PADDING, "eos_token": END, "unk_token": "<unk>"}
        own = {"source_lang": source_lang, "target_lang": target_lang, "lower_case": lower_case}
        super().__init__(**{**special, **own, **kwargs})

    def build_splitter(self) -> Any:
        """Return what splits text into subwords and joins them."""
        if "pieces_file" in self.files:
            return SentencePiece(self.files["pieces_file"])
        return MosesBPE(self.files.get("codes_file"), self.languages, self.lower_case)

    @property
    def vocab_size(self) -> int:
        return len(self.symbols[self.side])

    def get_vocab(self) -> dict[str, int]:
        return dict(self.ids[self.side])

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Return the subwords of a sentence; a name of a special symbol in it is text like any other."""
        return self.splitter.split(text, self.side).split()

    def _convert_token_to_id_with_added_voc(self, token: str) -> int:
        return self._convert_token_to_id(token)

    def _convert_token_to_id(self, token: str) -> int:
        ids = self.ids[self.side]
        return ids.get(token, ids["<unk>"])

    def _convert_id_to_token(self, index: int) -> str:
        return self.symbols[self.side][index]

    def build_inputs_with_special_tokens(self, token_ids_0: list[int], token_ids_1: Any = None) -> list[int]:
        """Return a sentence with its end, as fairseq's encoder reads it and its decoder writes it."""
        if token_ids_1 is not None:
            raise ValueError("a translation model reads one sentence, not a pair; give targets as text_target")
        return [*token_ids_0, self.eos_token_id]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self.splitter.join(" ".join(tokens))

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        symbols = [self.symbols["target_file"][int(index)] for index in ids]
        if skip_special_tokens:
            # not the unknown word: fairseq shows it
            symbols = [symbol for symbol in symbols if symbol not in (BEGIN, PADDING, END)]
        return self.convert_tokens_to_string(symbols)

    def _switch_to_input_mode(self) -> None:
        self.side = "source_file"

    def _switch_to_target_mode(self) -> None:
        self.side = "target_file"

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Copy the files into another folder, and return their paths there."""
        paths = []
        for name, path in self.files.items():
            file_name = self.vocab_files_names[name]
            target = Path(save_directory) / (f"{filename_prefix}-{file_name}" if filename_prefix else file_name)
            if target.resolve() != Path(path).resolve():
                shutil.copyfile(path, target)
            paths.append(str(target))
        return tuple(paths)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "splitter": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.splitter = self.build_splitter()


class SentencePiece:
    """Splits any language with one model."""

    def __init__(self, model: str) -> None:
        import sentencepiece

        self.processor = sentencepiece.SentencePieceProcessor(model_file=model)

    def split(self, text: str, side: str) -> str:
        return " ".join(self.processor.encode(text, out_type=str))

    def join(self, subwords: str) -> str:
        return subwords.replace(" ", "").replace("\u2581", " ").strip()


class MosesBPE:
    """Makes tokens as Moses does, then subwords as subword-nmt does."""

    def __init__(self, codes: str | None, languages: dict[str, str | None], lower_case: bool) -> None:
        try:
            from sacremoses import MosesDetokenizer, MosesTokenizer
            from subword_nmt.apply_bpe import BPE
        except ImportError as error:
            raise ImportError(f"{error}; this tokenizer needs: pip install sacremoses subword-nmt") from None
        if codes is None:
            raise ValueError("the folder has neither spm.model nor bpe.codes")
        with open(codes, encoding="utf-8") as file:
            self.bpe = BPE(file)
        self.tokenizers = {side: MosesTokenizer(language) for side, language in languages.items()}
        self.lower_case = lower_case
        self.detokenizer = MosesDetokenizer(languages["target_file"])

    def split(self, text: str, side: str) -> str:
        tokens = self.tokenizers[side].tokenize(text, aggressive_dash_splits=True, return_str=True)
        return self.bpe.segment(tokens.lower() if self.lower_case else tokens)

    def join(self, subwords: str) -> str:
        words = f"{subwords} ".replace("@@ ", "").rstrip()
        return self.detokenizer.detokenize(words.split())

"""Measure what --subword-sampling does to sentences and to batches, and how long it takes, for each kind of pieces.

    python -m benchmarks.subword_sampling TEXT --output benchmarks/results/subword_sampling

TEXT is a folder with the plain text train.en and train.de.  One process draws the pieces of all sentences once.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary, LanguagePairDataset

from b2t_common import run_folder
from b2t_fairseq.subwords import models
from b2t_fairseq.subwords.data import SampledPairs, SampledSide, require_model_of_data
from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
from benchmarks.write_result import print_and_write, table_with_note

STRENGTHS = {"unigram": (0.2, 0.5), "bpe": (0.1,), "subword_nmt": (0.1,)}
NAMES = {"unigram": "unigram", "bpe": "BPE of SentencePiece", "subword_nmt": "BPE of subword-nmt"}
LANGUAGES = {"src": "en", "tgt": "de"}


def learn(kind: str, text: list[str], size: int, folder: Path) -> tuple[Path, Callable[[str], str]]:
    """Learn pieces from text; return the file of the model, and a function that cuts a line."""
    if kind == "subword_nmt":
        from subword_nmt.apply_bpe import BPE
        from subword_nmt.learn_bpe import learn_bpe

        codes = io.StringIO()
        learn_bpe(text, codes, size)
        (folder / run_folder.BPE_CODES).write_text(codes.getvalue(), encoding="utf-8")
        return folder / run_folder.BPE_CODES, BPE(io.StringIO(codes.getvalue())).segment
    import sentencepiece

    prefix = str(folder / kind)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=prefix, model_type=kind, vocab_size=size, minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    return folder / f"{kind}.model", lambda line: " ".join(processor.encode(line, out_type=str))


def pairs_of(texts: dict[str, list[str]], cut: Callable[[str], str]) -> LanguagePairDataset:
    """Return text in pieces, as data with one dictionary."""
    dictionary = Dictionary()
    sides = {side: [dictionary.encode_line(cut(line)).long() for line in lines] for side, lines in texts.items()}
    sizes = {side: np.array([len(sentence) for sentence in sentences]) for side, sentences in sides.items()}
    return LanguagePairDataset(
        sides["src"], sizes["src"], dictionary, sides["tgt"], sizes["tgt"], dictionary, shuffle=False
    )


def filled(pairs, max_tokens: int) -> float:
    """Return which share of ``--max-tokens`` the batches have, padding included."""
    batches = pairs.batch_by_size(pairs.ordered_indices(), max_tokens=max_tokens)
    lengths = [(len(pairs[number]["source"]), len(pairs[number]["target"])) for batch in batches for number in batch]
    ends = np.cumsum([len(batch) for batch in batches])[:-1]
    longest = [max(map(max, part)) for part in np.split(np.array(lengths), ends)]
    return float(np.mean([length * len(batch) for length, batch in zip(longest, batches, strict=True)]) / max_tokens)


def measure(texts: dict[str, list[str]], model: Path, cut: Callable[[str], str], strength: float, tokens: int) -> dict:
    """Return what drawing does to both sides."""
    pairs = pairs_of(texts, cut)
    without = filled(pairs, tokens)
    epoch, sides, row = torch.ones(1, dtype=torch.long), {}, {}
    for name, language in LANGUAGES.items():
        pieces = models.read(model, pairs.src_dict, strength)
        side = SampledSide(getattr(pairs, name), getattr(pairs, f"{name}_sizes"), pieces, 2, f"1 {name}", epoch)
        require_model_of_data(side, "--subword-sampling", language)
        begin = time.process_time()
        after = sum(len(side[number]) for number in range(len(side)))
        seconds = time.process_time() - begin
        row[language] = {"ratio": after / int(side.own_sizes.sum()), "milliseconds": 1000 * seconds / len(side)}
        sides[name] = side
    return {**row, "filled": filled(SampledPairs(pairs, sides, epoch), tokens), "filled_without": without}


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        ratios = [f"{row[language]['ratio']:.2f}" for language in LANGUAGES.values()]
        times = [f"{row[language]['milliseconds']:.2f} ms" for language in LANGUAGES.values()]
        shares = [f"{row[name]:.0%}" for name in ("filled", "filled_without")]
        rows.append([NAMES[row["kind"]], f"{row['strength']:g}", *ratios, *times, *shares])
    header = ["pieces", "number", "en, times as long", "de", "a sentence of en takes", "of de"]
    header += ["of a batch is filled", "without drawing"]
    note = (
        f"{result['sentences']:,} sentences, {result['pieces']:,} pieces, batches of {result['max_tokens']:,} tokens "
        "with padding, time of one processor."
    )
    return table_with_note(header, rows, "lrrrrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("text", metavar="TEXT", type=Path, help="folder with train.en and train.de")
    parser.add_argument("--pieces", type=int, default=4000, help="number of pieces, or of merges")
    parser.add_argument("--max-tokens", type=int, default=1000, help="of a batch")
    args = parser.parse_args()
    texts = {
        side: (args.text / f"train.{language}").read_text(encoding="utf-8").splitlines()
        for side, language in LANGUAGES.items()
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, strengths in STRENGTHS.items():
            model, cut = learn(kind, texts["src"] + texts["tgt"], args.pieces, Path(folder))
            for strength in strengths:
                row = measure(texts, model, cut, strength, args.max_tokens)
                rows.append({"kind": kind, "strength": strength, **row})
    settings = {"machine": machine("cpu"), "pieces": args.pieces, "max_tokens": args.max_tokens}
    result = {**settings, "sentences": len(texts["src"]), "rows": rows}
    print_and_write("subword_sampling", result, markdown, args.output)


if __name__ == "__main__":
    main()

"""Put the results of benchmarks/any_cpu.sh into one page, FOLDER/summary.md.

python -m benchmarks.cpu_summary FOLDER

This program imports neither PyTorch nor fairseq.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2t_cli.tables import markdown_table
from benchmarks.summary_page import sections, write_page

PARTS = {
    "training_6l": "Training, 6-6 layers",
    "training_18l": "Training, 18-18 layers",
    "parts": "Products and Adam alone",
    "decoding": "Translation",
    "latency": "One sentence at a time",
    "ctranslate2": "One and the same model by three programs",
    "int8_products": "Products with 8 bits",
    "first_result": "First update, first translation",
    "kept_memory": "Memory that is kept",
    "busy_machine": "Beside other work",
}
"""The parts of benchmarks/any_cpu.sh, and what the page calls them."""
NOT_MEASURED = "not measured"

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Headline:
    """One number of a kind of processor: how many times as fast as another program.

    Attributes:
        name: what is measured.
        part: the part that measures it.
        ratio: returns it, given the rows of the part's result.
        goals: what it should be on a processor without and with AVX-512.
    """

    name: str
    part: str
    ratio: Callable[[Rows], float]
    goals: tuple[float, float]


def _ratio(**wanted: str) -> Callable[[Rows], float]:
    """Return what finds the ratio to fairseq in the row with these values."""
    return lambda rows: next(
        row["speed_ratio"] for row in rows if all(row[key] == value for key, value in wanted.items())
    )


def _to_ctranslate2(ours: str, theirs: str) -> Callable[[Rows], float]:
    """Return what divides this plugin's speed by CTranslate2's."""
    return lambda rows: _ratio(program=ours)(rows) / _ratio(program=theirs)(rows)


_B2T, _INT8 = "b2t generate", "b2t generate --int8"
_BATCHES = "4096 tokens"
HEADLINES = (
    Headline("training 6-6, B2T, float32", "training_6l", _ratio(variant="--residual b2t"), (1.35, 1.9)),
    Headline("training 18-18, B2T, float32", "training_18l", _ratio(variant="--residual b2t"), (1.35, 1.9)),
    Headline("decoding, batches, float32", "decoding", _ratio(setting=_BATCHES, program=_B2T), (1.8, 3.0)),
    Headline("decoding, one sentence, float32", "latency", _ratio(program="b2t"), (2.0, 2.5)),
    Headline("decoding, batches, `--int8`", "decoding", _ratio(setting=_BATCHES, program=_INT8), (3.0, 4.0)),
    Headline("decoding, one sentence, `--int8`", "latency", _ratio(program="b2t --int8"), (5.0, 5.0)),
    Headline("float32 against CTranslate2's", "ctranslate2", _to_ctranslate2(_B2T, "CTranslate2, float32"), (1.1, 1.3)),
    Headline(
        "`--int8` against CTranslate2's int8", "ctranslate2", _to_ctranslate2(_INT8, "CTranslate2, int8"), (1.0, 1.0)
    ),
)


def measured(folder: Path, headline: Headline) -> str:
    """Return a number of the folder of a kind of processor, ``NOT_MEASURED`` without its part."""
    result = folder / f"{headline.part}.json"
    if not result.is_file():
        return NOT_MEASURED
    try:
        return f"{headline.ratio(json.loads(result.read_text(encoding='utf-8'))['rows']):.2f}"
    except StopIteration:
        return NOT_MEASURED


def summary(folder: Path) -> str:
    """Return the page."""
    rows = [[headline.name, measured(folder, headline)] for headline in HEADLINES]
    table = markdown_table(["times as fast", folder.name], rows, "lr")
    return f"{table}\n\n{sections(folder, 'any_cpu.sh', PARTS)}"


def main() -> None:
    write_page(__doc__, "any_cpu.sh", summary)


if __name__ == "__main__":
    main()

"""What was measured on processors of both kinds, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2t_cli.tables import markdown_table
from benchmarks import training_speed
from benchmarks.cpu_summary import HEADLINES, NOT_MEASURED, measured
from benchmarks.write_result import interval

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results"
OF_KINDS = RESULTS / "cpu"
KINDS = {"avx2": "limited to AVX2", "avx512": "with AVX-512"}


@dataclass(frozen=True)
class Comparison:
    """A table with the results of one benchmark on both kinds of processor.

    Attributes:
        files: where the results are, with ``{kind}`` for the kind of processor.
        labels: name of a column to what the rows have under it.
        note: what the ratios are of, one or several sentences.
        ratios: name of a column to the key of the rows that has its ratio and quartiles; by default it is in the rows.
        spread: what the brackets have.
    """

    files: tuple[str, ...]
    labels: Mapping[str, str]
    note: str
    ratios: Mapping[str, str] | None = None
    spread: str = "quartiles"


_BASELINE = "1.00 (1.00 to 1.00)"
_BATCHES = {"batches": "setting", "program": "program"}
COMPARISONS = {
    "training": Comparison(
        ("cpu/{kind}/training_6l", "cpu/{kind}/training_18l"),
        {"size": "size", "model": "variant"},
        "Time on the clock of a whole update of 2,048 tokens, width 512, vocabulary 32,768, relative to fairseq's "
        "Transformer.",
    ),
    "training ceiling": Comparison(
        ("training_ceiling_{kind}",),
        {"update": "variant"},
        "Processor time of an update of 1,024 tokens, 6-6 layers, relative to fairseq's. The rows of products are "
        "their FLOPs by the fastest product of the round.",
    ),
    "decoding": Comparison(
        ("cpu/{kind}/decoding",),
        _BATCHES,
        "Processor time of 24 sentences, and of 3 one by one, relative to `fairseq-generate`; 6-6 layers, random "
        "weights, beam 4.",
    ),
    "latency": Comparison(
        ("cpu/{kind}/latency",),
        {"program": "program"},
        "Processor time of each of 24 sentences, relative to fairseq's for the same one; 6-6 layers, beam 4.",
    ),
    "decoding ceiling": Comparison(
        ("decoding_ceiling_{kind}",),
        _BATCHES,
        "Processor time of a sentence, relative to fairseq's; 6-6 layers, beam 4, translations as long as their "
        "sources.",
    ),
    "int8 products": Comparison(
        ("cpu/{kind}/int8_products",),
        {"product": "product"},
        "Processor time of PyTorch's product in float32, and of this plugin's, by that of the product with 8-bit "
        "weights.",
        ratios={"PyTorch, float32": "PyTorch, float32", "this plugin, float32": "b2t, float32"},
    ),
    "ctranslate2": Comparison(
        ("cpu/{kind}/ctranslate2",),
        {"program": "program"},
        "Processor time, relative to `fairseq-generate`; 12-12 layers of 6 parameter sets, 24 sentences of 25 words in "
        "batches of 16, beam 4.",
        spread="lowest and highest",
    ),
}


def headlines_table() -> str:
    """Return a table of the goals and of what was measured, by kind of processor."""
    rows = [
        [
            headline.name,
            *(
                cell
                for kind, goal in zip(KINDS, headline.goals, strict=True)
                for cell in (measured(OF_KINDS / kind, headline), str(goal))
            ),
        ]
        for headline in HEADLINES
    ]
    header = ["times as fast", *(cell for name in KINDS.values() for cell in (name, "goal"))]
    return markdown_table(header, rows, "lrrrr")


def ratios(kind: str) -> str:
    """Return what was measured on a kind of processor, in one line, without the comparisons with CTranslate2."""
    found = {
        headline.name: measured(OF_KINDS / kind, headline)
        for headline in HEADLINES
        if "CTranslate2" not in headline.name
    }
    return "; ".join(f"{name}: {ratio}" for name, ratio in found.items() if ratio != NOT_MEASURED)


def side_by_side(name: str) -> str:
    """Return the table of one of ``COMPARISONS``: how many times as fast, with spread, by kind of processor."""
    compared = COMPARISONS[name]
    results = {kind: [_read(file.format(kind=kind)) for file in compared.files] for kind in KINDS}
    columns = compared.ratios or {"": ""}
    cells: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    # first the kind that has all rows: only processors with AVX-512 have instructions for bfloat16
    for kind in reversed(results):
        for row in (row for result in results[kind] for row in result["rows"]):
            labels = tuple(str(row[key]) for key in compared.labels.values())
            for column, key in columns.items():
                cells.setdefault(labels, {})[kind, column] = _ratio(row[key] if key else row)
    header = [*compared.labels, *(f"{column} {KINDS[kind]}".strip() for kind in KINDS for column in columns)]
    rows = [
        [*labels, *(of_row.get((kind, column), NOT_MEASURED) for kind in KINDS for column in columns)]
        for labels, of_row in cells.items()
        if set(of_row.values()) != {_BASELINE}
    ]
    alignment = "l" * len(compared.labels) + "r" * (len(header) - len(compared.labels))
    (rounds,) = {result["rounds"] for of_kind in results.values() for result in of_kind}
    note = f"{compared.note} Medians over {rounds} rounds; in brackets are {compared.spread}."
    origins = " ".join(_origin(kind, of_kind) for kind, of_kind in results.items())
    return f"{markdown_table(header, rows, alignment)}\n\n{note} {origins}"


def shared_training_table() -> str:
    """Return the table of training with shared layers, from the comparison of all sizes."""
    result = _read("training_speed")
    shared = [row for row in result["rows"] if row["size"] in ("shared_12", "shared_18", "universal")]
    return training_speed.markdown({**result, "rows": shared}).strip()


def _read(file: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))


def _origin(kind: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Return what was measured on and by which commands."""
    (machine,) = {result["machine"] for result in results}
    commands = ", ".join(f"`{result['command']}`" for result in results)
    name = KINDS[kind]
    return f"{name[0].upper()}{name[1:]}: {machine}. Command: {commands}."


def _ratio(row: Mapping[str, Any]) -> str:
    spread = next(row[key] for key in ("speed_ratio_quartiles", "speed_ratio_range", "quartiles") if key in row)
    return f"{row['speed_ratio']:.2f} ({interval(spread)})"

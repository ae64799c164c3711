"""The result of benchmarks/distillation/run.sh: a teacher, and a student with and without the teacher's translations.

bash benchmarks/distillation/run.sh --work runs/distillation
python -m benchmarks.distilling runs/distillation --output benchmarks/results/distilling
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
from benchmarks.quickstart_runs import add_work, read_finished
from benchmarks.write_result import print_and_write, table_with_note

TEXTS = {
    "teacher": "people's translations",
    "student": "people's translations",
    "distilled": "the teacher's translations",
}
"""The runs in the folder, and whose translations each has learned from."""


def row(work: Path, name: str) -> dict[str, Any]:
    """Return the model, the training and the scores of a run.

    Raises:
        InputError: it is not finished.
    """
    finished = read_finished(work / name, "benchmarks/distillation/run.sh")
    return {
        "run": name,
        "text": TEXTS[name],
        "sharing": finished.run.model.sharing,
        "parameters": finished.parameters,
        "updates": finished.run.updates(),
        "bleu": finished.bleu,
        "chrf": finished.chrf,
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table with a note."""
    header = ["model", "trained on", "layers share", "parameters", "updates", "BLEU", "chrF2"]
    rows = [
        [
            row["run"] if row["run"] == "teacher" else "student",
            row["text"],
            row["sharing"],
            f"{row['parameters']:,}",
            f"{row['updates']:,}",
            f"{row['bleu']:.2f}",
            f"{row['chrf']:.2f}",
        ]
        for row in result["rows"]
    ]
    note = (
        f"Multi30k, test_2016_flickr; the teacher translated the training text in {result['seconds']:,} s. The "
        "dictionary is that of the text that a model is trained on, so the numbers of parameters differ."
    )
    return table_with_note(header, rows, "lllrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_work(parser)
    args = parser.parse_args()
    seconds = int((args.work / "translation_seconds.txt").read_text())
    result = {"machine": machine("cpu"), "seconds": seconds, "rows": [row(args.work, name) for name in TEXTS]}
    print_and_write("distilling", result, markdown, args.output)


if __name__ == "__main__":
    main()

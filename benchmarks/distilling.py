"""The result of benchmarks/distillation/run.sh: a teacher, and a student with and without the teacher's translations.

bash benchmarks/distillation/run.sh --work runs/distillation
python -m benchmarks.distilling runs/distillation --output benchmarks/results/distilling
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from b2t_cli.runs.run import read_all
from b2t_common.errors import InputError
from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
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
    file = work / name / "score.txt"
    if not file.is_file():
        raise InputError(f"{file} is not there: benchmarks/distillation/run.sh has not come so far; call it again")
    scores = {metric: float(score) for metric, score in re.findall(r"^(\w+)\|.* = ([\d.]+)$", file.read_text(), re.M)}
    (run,) = read_all([work / name])
    if run.model.parameters is None:
        raise InputError(f"{work / name} does not say how many parameters its model has; give the folder of run.sh")
    return {
        "run": name,
        "text": TEXTS[name],
        "sharing": run.model.sharing,
        "parameters": run.model.parameters,
        "updates": run.updates(),
        "bleu": scores["BLEU"],
        "chrf": scores["chrF2"],
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
    note = f"Multi30k, test_2016_flickr; the teacher translated the training text in {result['seconds']:,} s."
    return table_with_note(header, rows, "lllrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("work", type=Path, metavar="WORK", help="the folder that was given to run.sh")
    args = parser.parse_args()
    seconds = int((args.work / "translation_seconds.txt").read_text())
    result = {"machine": machine("cpu"), "seconds": seconds, "rows": [row(args.work, name) for name in TEXTS]}
    print_and_write("distilling", result, markdown, args.output)


if __name__ == "__main__":
    main()

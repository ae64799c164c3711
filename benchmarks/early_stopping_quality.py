"""The result of benchmarks/early_stopping/run.sh: a model with and without R-Drop, chosen by BLEU or by time.

bash benchmarks/early_stopping/run.sh --work runs/early_stopping
python -m benchmarks.early_stopping_quality runs/early_stopping --output benchmarks/results/early_stopping
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from b2t_common.errors import InputError
from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
from benchmarks.quickstart_runs import add_work, read_finished, read_scores
from benchmarks.write_result import print_and_write, table_with_note

SCRIPT = "benchmarks/early_stopping/run.sh"
FOLDER = "r_drop_"


def read_rows(work: Path) -> list[dict[str, Any]]:
    """Return one row for each alpha of R-Drop.

    Raises:
        InputError: there is no run, or one is not finished.
    """
    folders = sorted(work.glob(f"{FOLDER}*"))
    if not folders:
        raise InputError(f"{work} has no folder {FOLDER}...; give the folder of {SCRIPT}")
    rows = []
    for folder in folders:
        finished = read_finished(folder, SCRIPT)
        curve = finished.run.log.validation()
        # of equal values the later one, as fairseq chooses
        bleu, update = max(zip(curve["bleu"].tolist(), curve["update"].tolist(), strict=True))
        rows.append(
            {
                "r_drop": float(folder.name.removeprefix(FOLDER)),
                "parameters": finished.parameters,
                "updates": finished.run.updates(),
                "best_update": int(update),
                "best_validation_bleu": bleu,
                "bleu_of_best": finished.bleu,
                "bleu_of_last": read_scores(folder / "last_score.txt", SCRIPT)["BLEU"],
            }
        )
    return rows


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table with a note."""
    rows = []
    for row in result["rows"]:
        stopped = [f"{row['updates']:,}", f"{row['best_update']:,}", f"{row['best_validation_bleu']:.2f}"]
        rows.append([f"{row['r_drop']:g}", *stopped, f"{row['bleu_of_best']:.2f}", f"{row['bleu_of_last']:.2f}"])
    header = [
        "`--r-drop`",
        "updates",
        "best validation after",
        "its BLEU",
        "BLEU of the test set, `--best 3`",
        "`--last 3`",
    ]
    note = (
        f"Multi30k, test_2016_flickr, one seed, {result['rows'][0]['parameters']:,} parameters. A run ends after 8 "
        "validations without a higher BLEU; about two are made in 550 updates. In validation BLEU is that of "
        "a greedy search, in the test set of a beam of 5. An update with R-Drop computes each sentence twice."
    )
    return table_with_note(header, rows, "rrrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_work(parser)
    args = parser.parse_args()
    result = {"machine": machine("cpu"), "rows": read_rows(args.work)}
    print_and_write("early_stopping_quality", result, markdown, args.output)


if __name__ == "__main__":
    main()

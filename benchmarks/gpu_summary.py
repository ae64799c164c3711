"""Put the results of benchmarks/gpu.sh into one page, FOLDER/summary.md, which docs/speed.md shows.

python -m benchmarks.gpu_summary FOLDER

This program imports neither PyTorch nor fairseq.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.summary_page import sections, write_page

PARTS = {
    "parity": "Float32 against float64 on the CPU",
    "compile": "`--compile` against the same model without it",
    "resume": "A run that was stopped and continued",
    "parallel": "Two processes",
    "memory": "Memory of an update",
    "training_6l": "Training, 6-6 layers",
    "training_18l": "Training, 18-18 layers",
    "training_shared_18": "Training, 18-18 layers from 6 sets",
    "decoding": "Translation",
    "ctranslate2": "Translation by CTranslate2",
}
"""The parts of benchmarks/gpu.sh, and what the page calls them."""


def summary(folder: Path) -> str:
    """Return the page."""
    return sections(folder, "gpu.sh", PARTS)


def main() -> None:
    write_page(__doc__, "gpu.sh", summary)


if __name__ == "__main__":
    main()

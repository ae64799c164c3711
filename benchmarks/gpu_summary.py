"""Put the results of benchmarks/gpu.sh into one page, FOLDER/summary.md, which docs/speed.md shows.

python -m benchmarks.gpu_summary FOLDER

This program imports neither PyTorch nor fairseq.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from b2t_common.files import write_whole

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


def section(folder: Path, part: str) -> str:
    """Return the section of a part: its result, or why there is none."""
    result, failure = (folder / f"{part}.{suffix}" for suffix in ("md", "failed"))
    if result.is_file():
        text = result.read_text(encoding="utf-8").strip()
    elif failure.is_file():
        text = "No result:\n\n```\n" + failure.read_text(encoding="utf-8").strip() + "\n```"
    else:
        text = f"Not run yet: `bash benchmarks/gpu.sh --only {part}`"
    return f"**{PARTS[part]}**\n\n{text}\n"


def summary(folder: Path) -> str:
    """Return the page."""
    return "\n".join(section(folder, part) for part in PARTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where benchmarks/gpu.sh wrote its results")
    args = parser.parse_args()
    text = summary(args.folder)
    write_whole({args.folder / "summary.md": text.encode()})
    print(text, end="")


if __name__ == "__main__":
    main()

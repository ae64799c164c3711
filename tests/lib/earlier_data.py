"""The small translation data on which version 0.1.0 trained the checkpoints of tests/golden/version_0_1_0."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from unittest.mock import patch

from fairseq_cli import preprocess


def write_earlier_data(folder: Path) -> Path:
    """Write train (120), valid (16) and test (21) pairs, binarized, and return the folder of the binary data.

    The target is the source reversed, in other words.  ``random.random`` gives the same numbers in every Python.
    """
    draw = random.Random(0).random
    text = folder / "text"
    text.mkdir(parents=True)
    for split, lines in (("train", 120), ("valid", 16), ("test", 21)):
        sources, targets = [], []
        for _ in range(lines):
            words = [int(12 * draw()) for _ in range(2 + int(6 * draw()))]
            sources.append(" ".join(f"w{word}" for word in words) + "\n")
            targets.append(" ".join(f"v{word}" for word in reversed(words)) + "\n")
        (text / f"{split}.en").write_text("".join(sources))
        (text / f"{split}.de").write_text("".join(targets))
    flags = ["-s", "en", "-t", "de", "--joined-dictionary", "--destdir", str(folder / "bin"), "--workers", "1"]
    for name, split in (("--trainpref", "train"), ("--validpref", "valid"), ("--testpref", "test")):
        flags += [name, str(text / split)]
    with patch.object(sys, "argv", ["fairseq-preprocess", *flags]):
        preprocess.cli_main()
    return folder / "bin"

"""Print the loss of a model that knows only the frequencies of words, in bits per token.

python -m claims.study.unigrams TRAIN VALID
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

from b2t_common.files import read_lines

END = "</s>"


def loss(train: list[str], valid: list[str]) -> float:
    """Return the cross-entropy of the tokens of ``valid`` under their frequencies in ``train``; ends of lines count.

    Args:
        train: lines of tokens with blanks between them.
        valid: likewise.  A token that is not in ``train`` counts as if it were there once.
    """
    counts = Counter(token for line in train for token in [*line.split(), END])
    total = sum(counts.values())
    tokens = [token for line in valid for token in [*line.split(), END]]
    return -sum(math.log2(max(counts[token], 1) / total) for token in tokens) / len(tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="tokens of the training text's target side")
    parser.add_argument("valid", type=Path, help="the same of the validation text")
    args = parser.parse_args()
    print(f"{loss(read_lines(args.train), read_lines(args.valid)):.4f}")


if __name__ == "__main__":
    main()

"""Write examples of the word problem over the permutations of five things, a task in which depth is known to pay.

    python -m claims.study.word_problem --examples 1000 --seed 1 --output train
    python -m claims.study.word_problem --each 100 --seed 0 --output test

A word is a sequence of k generators, 1 <= k <= 32: ``s`` swaps the first two of five things, ``r`` moves the first one
behind the others.  Its product is the order of the five things after all of them.  The products of the two halves of a
word can be found independently, and so on for their halves, so that about log2 k layers are enough which combine
neighbours; a model with fewer layers must learn shortcuts.  (Five is the smallest number of things whose permutations
have a word problem that is complete for NC1: Barrington 1989.)

PREFIX.word has a word in each line, PREFIX.product its product.  Other seeds give other words, as many as one wants.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from b2t_common.files import write_whole

THINGS = 5
LENGTHS = range(1, 33)
GENERATORS = {"s": (1, 0, 2, 3, 4), "r": (1, 2, 3, 4, 0)}
"""For each generator the places from which the things of the new order come."""


def product(word: Sequence[str]) -> tuple[int, ...]:
    """Return the order of the things 0 to 4 after the generators of a word, the first one first."""
    order = tuple(range(THINGS))
    for letter in word:
        order = tuple(order[place] for place in GENERATORS[letter])
    return order


def words(lengths: Sequence[int], generator: random.Random) -> Iterator[str]:
    """Yield a random word of each length."""
    letters = list(GENERATORS)
    for length in lengths:
        yield "".join(generator.choices(letters, k=length))


def write(output: Path, examples: Sequence[str]) -> None:
    """Write words and their products, their letters and things with blanks between them."""
    products = (" ".join(str(thing + 1) for thing in product(word)) for word in examples)
    texts = {"word": map(" ".join, examples), "product": products}
    write_whole(
        {output.with_name(f"{output.name}.{kind}"): ("\n".join(lines) + "\n").encode() for kind, lines in texts.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = parser.add_mutually_exclusive_group(required=True)
    number.add_argument("--examples", type=int, metavar="N", help="how many words; each length is equally likely")
    number.add_argument("--each", type=int, metavar="N", help="how many words of each length")
    parser.add_argument("--seed", type=int, required=True, help="which words")
    parser.add_argument("--output", type=Path, required=True, metavar="PREFIX")
    args = parser.parse_args()
    generator = random.Random(args.seed)
    lengths = sorted(list(LENGTHS) * args.each) if args.each else generator.choices(LENGTHS, k=args.examples)
    write(args.output, list(words(lengths, generator)))


if __name__ == "__main__":
    main()

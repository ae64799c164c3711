#!/usr/bin/env python3
"""Choose --max-tokens by the memory of a GPU; print the number and then, in the same line, the reason in words.

    batch_size.py --memory MIB --max-tokens N --update TOKENS --processes P --model FLAGS --training FLAGS [FLAG...]

MIB is the memory of the smallest GPU.  N, TOKENS and FLAGS are the configuration's, and each FLAG is one of the user.

The choice is a multiple of the configuration's own --max-tokens, and an update keeps its size.  It is the largest
multiple for which what batch_memory.tsv counts stays below nine tenths of the memory, and with which an update still
consists of at least 16 batches: fairseq puts sentences of similar length into a batch, and an update should see all
lengths.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from pathlib import Path

TABLE = Path(__file__).resolve().parent / "batch_memory.tsv"

USABLE = 0.9  # of a GPU's memory; the tenth is for what is not counted, such as freed blocks that fit nothing else
LEAST_BATCHES = 16  # in an update
# weights and gradients in half precision, both in float32 for the optimizer, two moments, and the weights of queries,
# keys and values once more, packed into one matrix
PARAMETER_BYTES = 2 + 2 + 4 + 4 + 8 + 2
# CUDA's context and libraries, and the logits of some tokens at a time
FIXED_BYTES = 2 * 2**30
# The backward pass holds so many tensors of the widest kind beside what the forward pass kept.  One was measured.
TRANSIENT_TENSORS = 4

# Flags that change neither the model nor what it keeps.  With any other flag the table may not be right.
_WITHOUT_EFFECT = re.compile(
    r"--(adam-|best-|clip-norm|(encoder|decoder)-word-dropout|depth-scaled|disable-valid|dropout|eval-|finetune-|"
    r"fixed-valid|keep-|label-smoothing|log-|lr|max-epoch|max-update|maximize-|min-l|no-epoch|no-last|no-save|"
    r"patience|power|r-drop|rdrop-|report-accuracy|restore-file|save-|seed|stop-|(target-)?subword-|tensorboard|total-num|"
    r"train-subset|valid|warmup-|wandb|weight-decay|end-learning)"
)
# The blocks of a text have one length, so that all batches are alike.
_BLOCKS = re.compile(r"--sample-break-mode (none|complete)\b")
# R-Drop computes each batch twice at the same time.
_TWO_PASSES = re.compile(r"--(r-drop|rdrop-alpha)[ =](?!0*\.?0*( |$))")


@dataclass(frozen=True)
class Row:
    """A line of the table: a model, and what it needs.

    Attributes:
        parameters: tied ones count once.
        token_bytes: bytes that one token, source and target, keeps for the backward pass in half precision.
        widest_bytes: bytes of one token's widest tensor in half precision.
    """

    parameters: int
    token_bytes: int
    widest_bytes: int

    def line(self, model: str) -> str:
        """Return the line of the table for a model with these flags."""
        return f"{model}\t{self.parameters}\t{self.token_bytes}\t{self.widest_bytes}\n"

    def needed_bytes(self, max_tokens: int) -> int:
        """Return the bytes in use at the largest moment of an update, in batches of ``max_tokens`` tokens."""
        of_a_token = self.token_bytes + TRANSIENT_TENSORS * self.widest_bytes
        return FIXED_BYTES + PARAMETER_BYTES * self.parameters + max_tokens * of_a_token


def read_table(path: Path = TABLE) -> dict[str, Row]:
    """Return the table's lines by the flags of their models."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {model: Row(*map(int, numbers)) for model, *numbers in (line.split("\t") for line in lines)}


def choose(args: argparse.Namespace, table: dict[str, Row]) -> tuple[int, str]:
    """Return ``--max-tokens``, and the reason in words."""
    own = args.max_tokens
    row = table.get(args.model)
    if row is None:
        return own, "the configuration's, because scripts/batch_memory.tsv has no line for its model"
    if _TWO_PASSES.search(" ".join([args.training, *args.flags])):
        row = replace(row, token_bytes=2 * row.token_bytes, widest_bytes=2 * row.widest_bytes)
    changing = [flag for flag in args.flags if flag.startswith("--") and not _WITHOUT_EFFECT.match(flag)]
    if changing:
        return own, f"the configuration's, because {changing[0]} may change how much memory a token needs"
    multiples = [n * own for n in range(1, args.update // own + 1) if args.update % (args.processes * n * own) == 0]
    if not multiples:
        return own, "the configuration's"
    fitting = [number for number in multiples if row.needed_bytes(number) <= USABLE * args.memory * 2**20]
    if not fitting:
        needs = f"an update needs {_gib(row.needed_bytes(own))} of the GPU's {_gib(args.memory * 2**20)}"
        return own, f"the configuration's, but {needs}; if that fails, add --checkpoint-activations"
    least = 1 if _BLOCKS.search(args.training) else LEAST_BATCHES
    allowed = [number for number in fitting if number == own or args.update // number >= least]
    chosen = max(allowed)
    needs = f"an update needs {_gib(row.needed_bytes(chosen))} of the GPU's {_gib(args.memory * 2**20)}"
    if chosen == max(multiples):
        why = "no batch can be larger in such an update"
    elif chosen == max(fitting):
        why = f"the next larger batch would leave less than {1 - USABLE:.0%} free"
    else:
        why = f"an update should have at least {least} batches, so that it sees sentences of all lengths"
    return chosen, f"{needs}, and {why}"


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.allow_abbrev = False
    for name in ("memory", "max-tokens", "update", "processes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("model", "training"):
        # written as --model=FLAGS, because the flags begin with a dash
        parser.add_argument(f"--{name}", required=True)
    args, args.flags = parser.parse_known_args()
    print(*choose(args, read_table()))


if __name__ == "__main__":
    main()

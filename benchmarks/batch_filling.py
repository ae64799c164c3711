"""Count what a search computes in vain, and time it for batches of several sizes, on trained models.

    python -m benchmarks.batch_filling runs/quickstart-grammar runs/quickstart-multi30k

RUN is the folder of scripts/quickstart.sh, whose test set is translated.  What is computed in vain are sentences that
are finished and padding of the source.  When most sentences of a batch are finished, a step takes nearly as long as the
weights take to be read.  One thread computes, and what is counted is its processor time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from b2t_common import run_folder
from b2t_fairseq.decoding import BeamSearchGenerator
from b2t_fairseq.decoding.step_decoder import StepDecoder
from benchmarks.arguments import add_rounds, benchmark_parser
from benchmarks.measuring import machine, median_and_quartiles, ratios, rounds_in_turn
from benchmarks.translating import search
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

FEW = 1 / 8
"""Steps with at most this part of the sentences of a batch are those of few sentences."""


@dataclass
class Counts:
    """What a search has computed.

    Attributes:
        batches: how many.
        computed: decoder rows by hypotheses: sentences, summed over steps.
        unfinished: those of them that were not finished.
        tokens: of the sources.
        padded: the same with padding.
        steps: seconds of each step, and whether it had few sentences.
        seconds: of the search.
    """

    batches: int = 0
    computed: int = 0
    unfinished: int = 0
    tokens: int = 0
    padded: int = 0
    steps: list[tuple[float, bool]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, sample: dict, hypotheses: list[list[dict]], marks: list[tuple[int, float]]) -> None:
        """Add a batch.

        Args:
            sample: the batch.
            hypotheses: of each sentence.
            marks: number of sentences and time at the beginning of each step, and at the end.
        """
        source, lengths = (sample["net_input"][name] for name in ("src_tokens", "src_lengths"))
        self.batches += 1
        self.tokens, self.padded = self.tokens + int(lengths.sum()), self.padded + source.numel()
        # A sentence is finished with the longest of its hypotheses.
        self.unfinished += sum(max(len(hypothesis["tokens"]) for hypothesis in each) for each in hypotheses)
        for (sentences, start), (_, end) in pairwise(marks):
            self.computed += sentences
            self.steps.append((end - start, sentences <= FEW * len(source)))

    def row(self) -> dict:
        """Return the shares that the table shows."""
        seconds = sum(seconds for seconds, _ in self.steps)
        return {
            "batches": self.batches,
            "steps": len(self.steps),
            "finished": 1 - self.unfinished / self.computed,
            "padding": 1 - self.tokens / self.padded,
            "steps_of_few": sum(is_few for _, is_few in self.steps) / len(self.steps),
            "time_of_few": sum(seconds for seconds, is_few in self.steps if is_few) / seconds,
        }


@contextmanager
def counting(counts: Counts) -> Iterator[None]:
    """Count what our own search computes."""
    generate, step = BeamSearchGenerator._generate, StepDecoder.__call__
    marks: list[tuple[int, float]] = []

    def counted(self: BeamSearchGenerator, sample: dict, *args, **kwargs) -> list[list[dict]]:
        marks.clear()
        start = time.process_time()
        hypotheses = generate(self, sample, *args, **kwargs)
        end = time.process_time()
        counts.seconds += end - start
        counts.add(sample, hypotheses, [*marks, (0, end)])
        return hypotheses

    def marked(self: StepDecoder, tokens: Tensor) -> Tensor:
        marks.append((len(tokens), time.process_time()))
        return step(self, tokens)

    with patch.object(BeamSearchGenerator, "_generate", counted), patch.object(StepDecoder, "__call__", marked):
        yield


def measure(run: Path, args: argparse.Namespace) -> list[dict]:
    """Return one row for each size of batches; ratios are to the first size."""
    found: dict[str, Counts] = {}

    def translate(max_tokens: str) -> float:
        counts = found[max_tokens] = Counts()
        flags = ["--cpu", "--beam", str(args.beam), "--gen-subset", "test", "--max-tokens", max_tokens]
        with tempfile.TemporaryDirectory() as folder, counting(counts):
            search(run / "data", run / args.checkpoint, Path(folder), flags)
        return counts.seconds

    sizes = [str(size) for size in args.max_tokens]
    seconds = rounds_in_turn({size: lambda size=size: translate(size) for size in sizes}, args.rounds)
    rows = []
    for size in sizes:
        speed, quartiles = median_and_quartiles(ratios(seconds[sizes[0]], seconds[size]))
        times = {"seconds": statistics.median(seconds[size]), "speed_ratio": speed, "speed_ratio_quartiles": quartiles}
        rows.append({"model": run.name, "max_tokens": int(size), **found[size].row(), **times})
    return rows


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        shares = [f"{row[name]:.1%}" for name in ("finished", "padding", "steps_of_few", "time_of_few")]
        cells = [row["model"], *(str(row[name]) for name in ("max_tokens", "batches", "steps"))]
        rows.append([*cells, *shares, f"{row['speed_ratio']:.2f}", interval(row["speed_ratio_quartiles"])])
    header = ["model", "`--max-tokens`", "batches", "steps", "finished sentences", "padding of the source"]
    header += ["steps of few sentences", "their time", "times as fast", "quartiles"]
    note = (
        f"Processor time. {medians(result, 'the first size')} Finished sentences are a share of what all steps "
        f"compute. Steps of few sentences have at most an eighth of those of their batch. Test sets, beam "
        f"{result['beam']}."
    )
    return table_with_note(header, rows, "lrrrrrrrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of scripts/quickstart.sh")
    parser.add_argument("--checkpoint", default=run_folder.AVERAGE, help="in these folders")
    parser.add_argument("--max-tokens", type=int, nargs="+", default=[4096, 12000, 32000], metavar="N")
    parser.add_argument("--beam", type=int, default=5)
    add_rounds(parser, 3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [row for run in args.runs for row in measure(run, args)]
    result = {"machine": machine("cpu"), "beam": args.beam, "rounds": args.rounds, "rows": rows}
    print_and_write("batch_filling", result, markdown, args.output)


if __name__ == "__main__":
    main()

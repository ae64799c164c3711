"""Time translation on one core, and show how fast it could be if it were nothing but matrix products.

    python -m benchmarks.decoding_ceiling --output benchmarks/results/decoding_ceiling_avx512

The products of a translation are recorded and then computed again without all else: with the same weights, as
this plugin has them in memory, and with inputs of the same sizes, in the same order.  They include the two products
of each attention.  fairseq's time by theirs is the largest ratio to fairseq that anything could reach which
computes products as this plugin does.  All times are processor time, and a batch and single sentences are apart.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from b2t_fairseq.kernels import bfloat16
from benchmarks.arguments import add_model_size, add_rounds, benchmark_parser, model_size
from benchmarks.kept_memory import FAIRSEQ, OURS, prepare, search_of
from benchmarks.measuring import machine, median_and_quartiles, processor_seconds, ratios, rounds_in_turn
from benchmarks.trainers import quiet
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

PRECISIONS: dict[str, dict[str, bool]] = {OURS: {}, f"{OURS} --bf16": {"bf16": True}, f"{OURS} --int8": {"int8": True}}
ONLY_PRODUCTS = "{}, nothing but products"
BATCH, SINGLE = "{} sentences", "1 sentence"
_INPUTS = {
    "aten::mm": 0,
    "aten::addmm": 1,
    "aten::bmm": 0,
    "aten::baddbmm": 1,
    "aten::_scaled_dot_product_flash_attention_for_cpu": 0,
    "mkldnn::_linear_pointwise": 0,
    "quantized::linear_dynamic": 0,
}
"""PyTorch's operators that compute products, with the place of the argument that is neither a weight nor a key."""


class Recording(TorchDispatchMode):
    """Records the matrix products that are computed.

    Attributes:
        calls: for each of them a function that computes it again, with an input of the same size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []
        self._inputs: dict[tuple, Tensor] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        place = _INPUTS.get(func._schema.name)
        if place is not None:
            again = [*args[:place], self._like(args[place]), *args[place + 1 :]]
            self.calls.append(partial(func, *again, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _like(self, x: Tensor) -> Tensor:
        """Return a tensor like ``x`` that all products with inputs of this size share, as freed memory is reused."""
        key = x.shape, x.stride(), x.dtype
        if key not in self._inputs:
            self._inputs[key] = torch.empty_strided(*key[:2], dtype=x.dtype).normal_()
        return self._inputs[key]


def batches(folder: Path, args: argparse.Namespace) -> dict[str, list[dict]]:
    """Return what is translated, by name: all sentences in one batch, and some of them one by one."""
    _, task = search_of(folder, OURS, args.beam)
    task.load_dataset("test")
    data = task.dataset("test")
    sentences = [data[number] for number in range(len(data))]
    # as fairseq-generate sorts them; a batch holds sentences of nearly one length
    middle = sorted(sentences, key=lambda sentence: len(sentence["source"]))[len(data) // 4 :][: args.batch]
    return {
        BATCH.format(len(middle)): [data.collater(middle)],
        SINGLE: [data.collater([sentence]) for sentence in middle[:: len(middle) // args.single]],
    }


def measure(folder: Path, args: argparse.Namespace) -> list[dict]:
    """Return the rows of the table."""
    programs = [name for name in (FAIRSEQ, *PRECISIONS) if "bf16" not in name or bfloat16.is_fast()]
    searches = {name: search_of(folder, name, args.beam, **PRECISIONS.get(name, {}))[0] for name in programs}
    rows = []
    for setting, samples in batches(folder, args).items():
        steps = steps_of(searches, samples)
        with torch.no_grad():
            seconds = rounds_in_turn(
                {name: partial(processor_seconds, step) for name, step in steps.items()}, args.rounds, warmup=1
            )
        num_sentences = sum(sample["nsentences"] for sample in samples)
        for name, times in seconds.items():
            speed, quartiles = median_and_quartiles(ratios(seconds[FAIRSEQ], times))
            numbers = {"seconds": statistics.median(times) / num_sentences, "speed_ratio": speed}
            rows.append({"setting": setting, "program": name, **numbers, "speed_ratio_quartiles": quartiles})
    return rows


def steps_of(
    searches: Mapping[str, Callable[[dict], object]], samples: Sequence[dict]
) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name: the search of each program for all samples, and our products alone."""
    steps: dict[str, Callable[[], object]] = {}
    for program, search in searches.items():
        steps[program] = partial(_call_with_each, search, samples)
        if program != FAIRSEQ:
            with Recording() as recording:
                steps[program]()
            steps[ONLY_PRODUCTS.format(program)] = partial(_call_each, recording.calls)
    return steps


def _call_with_each(search: Callable[[dict], object], samples: Sequence[dict]) -> None:
    for sample in samples:
        search(sample)


def _call_each(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = [
        [
            *(row["setting"], row["program"], f"{row['seconds'] * 1e3:.0f} ms", f"{row['speed_ratio']:.2f}"),
            interval(row["speed_ratio_quartiles"]),
        ]
        for row in result["rows"]
    ]
    note = f"Processor time of a sentence. {medians(result, FAIRSEQ)} {result['setting']}."
    header = ["batches", "program", "time", "times as fast", "quartiles"]
    return table_with_note(header, rows, "llrrr", result, note)


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_model_size(parser)
    parser.add_argument("--batch", type=int, default=40, help="sentences of the batch")
    parser.add_argument("--single", type=int, default=4, help="sentences that are translated one by one")
    parser.add_argument("--beam", type=int, default=4)
    add_rounds(parser, 5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.sentences = 2 * args.batch
    with tempfile.TemporaryDirectory() as folder, quiet():
        prepare(Path(folder), args)
        rows = measure(Path(folder), args)
    setting = f"{model_size(args)}, beam {args.beam}; translations are as long as their sources"
    result = {"machine": machine("cpu"), "setting": setting, "rounds": args.rounds, "rows": rows}
    print_and_write("decoding_ceiling", result, markdown, args.output)


if __name__ == "__main__":
    main()

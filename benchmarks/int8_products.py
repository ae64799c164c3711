"""Time the matrix products of translation with 8-bit weights, against float32, on the CPU.

    python -m benchmarks.int8_products --output benchmarks/results/int8_products

The sizes are those of the papers' base model: the hypotheses of one sentence or of a batch, and the tokens that an
encoder reads.  One thread computes, and what is counted is its processor time, which other work on the machine changes
little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from b2t_fairseq.kernels.linear import linear
from b2t_fairseq.kernels.quantized import quantize
from benchmarks.arguments import add_rounds, benchmark_parser
from benchmarks.measuring import machine, median_and_quartiles, ratios, rounds_in_turn
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

# (rows, input dimension, output dimension)
SIZES = [
    *((4, 512, outputs) for outputs in (512, 2048, 32768)),
    *((160, 512, outputs) for outputs in (512, 2048, 32768)),
    *((1024, 512, outputs) for outputs in (512, 2048)),
]
PYTORCH, OURS, INT8 = "PyTorch, float32", "b2t, float32", "b2t, int8"


def products(rows: int, inputs: int, outputs: int) -> dict[str, Callable[[], object]]:
    """Return each kind of product of (rows, inputs) with (inputs, outputs) by its name."""
    x, layer = torch.randn(rows, inputs), nn.Linear(inputs, outputs, bias=False)
    weight = layer.weight.detach()
    parent = nn.Sequential(layer)
    quantize(parent)
    return {
        PYTORCH: lambda: F.linear(x, weight),
        OURS: lambda: linear(x, weight),
        INT8: lambda: parent[0](x),
    }


def repeated(product: Callable[[], object], least_seconds: float = 0.01) -> Callable[[], float]:
    """Return a function that times a product, some times in a row if it is short, and returns the seconds of one."""
    product()
    start = time.process_time()
    for _ in range(10):
        product()
    times = max(1, int(10 * least_seconds / (time.process_time() - start)))

    def measurement() -> float:
        start = time.process_time()
        for _ in range(times):
            product()
        return (time.process_time() - start) / times

    return measurement


def measure(compared: Mapping[str, Callable[[], object]], rounds: int) -> dict:
    """Return the median times of some products, and the ratios of those in float32 to those in 8 bits."""
    times = rounds_in_turn({name: repeated(product) for name, product in compared.items()}, rounds, warmup=2)
    result: dict = {"seconds": {name: statistics.median(values) for name, values in times.items()}}
    for name in (PYTORCH, OURS):
        ratio, quartiles = median_and_quartiles(ratios(times[name], times[INT8]))
        result[name] = {"speed_ratio": ratio, "quartiles": quartiles}
    return result


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        times = [f"{row['seconds'][name] * 1e3:.3f} ms" for name in (PYTORCH, OURS, INT8)]
        gains = [f"{row[name]['speed_ratio']:.1f} ({interval(row[name]['quartiles'], 1)})" for name in (PYTORCH, OURS)]
        rows.append([row["product"], *times, *gains])
    header = ["product", PYTORCH, OURS, INT8, "int8 to PyTorch", "int8 to b2t, float32"]
    return table_with_note(
        header, rows, "lrrrrr", result, f"Processor time. {medians(result)} In brackets are quartiles."
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_rounds(parser, 21)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        rows = [{"product": " x ".join(map(str, sizes)), **measure(products(*sizes), args.rounds)} for sizes in SIZES]
    result = {"machine": machine("cpu"), "rounds": args.rounds, "rows": rows}
    print_and_write("int8_products", result, markdown, args.output)


if __name__ == "__main__":
    main()

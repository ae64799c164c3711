#!/usr/bin/env python3
"""Time parts of an update by themselves on the CPU: products and Adam of this plugin against PyTorch's and fairseq's.

python benchmarks/parts.py --output benchmarks/results/parts
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
import torch.nn.functional as F
from fairseq.optim.adam import Adam
from measuring import in_turn, machine, median_and_quartiles, ratios, seconds
from write_result import finish, markdown

from b2t_fairseq.kernels.adam import FusedAdam
from b2t_fairseq.kernels.linear import linear

# of the papers' base model: tokens of a batch or hypotheses of a step, input and output dimensions
IN_TRAINING = [(1024, 512, 1536), (1024, 512, 2048), (1024, 2048, 512), (1024, 512, 32768)]
IN_TRANSLATION = [(4, 512, 2048), (256, 512, 2048), (256, 512, 32768)]
VOCABULARY, WIDTH, LAYERS = 32768, 512, 12

Step = Callable[[], None]


def training_product(function: Callable, rows: int, inputs: int, outputs: int) -> Step:
    """Return a product forward and backward."""
    x, weight = torch.randn(rows, inputs, requires_grad=True), torch.randn(outputs, inputs, requires_grad=True)
    gradient = torch.randn(rows, outputs)

    def step() -> None:
        x.grad = weight.grad = None
        function(x, weight).backward(gradient)

    return step


def product(function: Callable, rows: int, inputs: int, outputs: int) -> Step:
    """Return a product forward only."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    return lambda: function(x, weight)


def optimizer_step(optimizer_class: type, vocabulary: int) -> Step:
    """Return a step of an optimizer over the parameters of a base model, about 250 tensors."""
    layer = [(WIDTH, WIDTH)] * 6 + [(4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)] + [(WIDTH,)] * 12
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in [(vocabulary, WIDTH), *layer * LAYERS]]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer = optimizer_class(parameters, lr=1e-4, betas=(0.9, 0.98))
    return lambda: optimizer.step()


def compared() -> dict[str, tuple[Step, Step]]:
    """Return what is compared: name to the step of PyTorch or fairseq and to this plugin's."""
    found = {}
    for sizes in IN_TRAINING:
        name = f"product of {' x '.join(map(str, sizes))}, with its gradients"
        found[name] = training_product(F.linear, *sizes), training_product(linear, *sizes)
    for sizes in IN_TRANSLATION:
        found[f"product of {' x '.join(map(str, sizes))}"] = product(F.linear, *sizes), product(linear, *sizes)
    for vocabulary in (VOCABULARY, VOCABULARY // 2):
        name = f"Adam, vocabulary {vocabulary}"
        found[name] = optimizer_step(Adam, vocabulary), optimizer_step(FusedAdam, vocabulary)
    return found


def measure(theirs: Step, ours: Step, rounds: int) -> dict:
    """Return the median times and their ratio within each round."""
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 2):
        for which in in_turn((0, 1), turn):
            times[which].append(seconds((theirs, ours)[which], "cpu"))
    # the first two rounds warm up
    times = [each[2:] for each in times]
    ratio, quartiles = median_and_quartiles(ratios(*times))
    before, after = map(statistics.median, times)
    return {"seconds": before, "our_seconds": after, "speed_ratio": ratio, "speed_ratio_quartiles": quartiles}


def table(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        low, high = row["speed_ratio_quartiles"]
        times = [f"{row[name] * 1e3:.2f} ms" for name in ("seconds", "our_seconds")]
        rows.append([row["part"], *times, f"{row['speed_ratio']:.2f}", f"{low:.2f} to {high:.2f}"])
    note = f"Medians over {result['rounds']} rounds, ratios within each round, float32."
    return markdown(["part", "PyTorch's or fairseq's", "here", "times as fast", "quartiles"], rows, 1, result, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [{"part": name, **measure(*steps, args.rounds)} for name, steps in compared().items()]
    result = {"machine": machine("cpu"), "rounds": args.rounds, "rows": rows}
    finish("parts.py", result, table, args.output)


if __name__ == "__main__":
    main()

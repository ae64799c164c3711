"""Time parts of an update alone on the CPU: this plugin's matrix products and Adam against PyTorch's and fairseq's.

python -m benchmarks.parts --output benchmarks/results/parts
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from fairseq.optim.adam import Adam

from b2t_fairseq.kernels.adam import FusedAdam
from b2t_fairseq.kernels.linear import linear
from benchmarks.arguments import add_rounds, add_threads, benchmark_parser
from benchmarks.measuring import machine, median_and_quartiles, ratios, rounds_in_turn, seconds
from benchmarks.write_result import interval, medians, print_and_write, table_with_note

# of the papers' base model: (tokens of a batch, input dimension, output dimension)
IN_TRAINING = [(1024, 512, 1536), (1024, 512, 2048), (1024, 2048, 512), (1024, 512, 32768)]
# (hypotheses of a step, input dimension, output dimension)
IN_TRANSLATION = [(4, 512, 2048), (256, 512, 2048), (256, 512, 32768)]
VOCABULARY, WIDTH, LAYERS = 32768, 512, 12
WARMUP = 2  # rounds that do not count

Step = Callable[[], None]


def training_product(function: Callable, rows: int, inputs: int, outputs: int) -> Step:
    """Return a step that multiplies (rows, inputs) by (inputs, outputs) and computes both gradients."""
    x, weight = torch.randn(rows, inputs, requires_grad=True), torch.randn(outputs, inputs, requires_grad=True)
    gradient = torch.randn(rows, outputs)

    def step() -> None:
        x.grad = weight.grad = None
        function(x, weight).backward(gradient)

    return step


def product(function: Callable, rows: int, inputs: int, outputs: int) -> Step:
    """Return a step that multiplies (rows, inputs) by (inputs, outputs)."""
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


def parts() -> dict[str, tuple[Step, Step]]:
    """Return for each part, by name, the step of PyTorch or fairseq and the step of this plugin."""
    steps = {}
    for sizes in IN_TRAINING:
        name = f"product of {' x '.join(map(str, sizes))}, with its gradients"
        steps[name] = training_product(F.linear, *sizes), training_product(linear, *sizes)
    for sizes in IN_TRANSLATION:
        steps[f"product of {' x '.join(map(str, sizes))}"] = product(F.linear, *sizes), product(linear, *sizes)
    for vocabulary in (VOCABULARY, VOCABULARY // 2):
        name = f"Adam, vocabulary {vocabulary}"
        steps[name] = optimizer_step(Adam, vocabulary), optimizer_step(FusedAdam, vocabulary)
    return steps


def measure(theirs: Step, ours: Step, rounds: int) -> dict:
    """Return the median times of two steps, and the ratio of theirs to ours within each round."""
    steps = {"theirs": lambda: seconds(theirs, "cpu"), "ours": lambda: seconds(ours, "cpu")}
    times = rounds_in_turn(steps, rounds, WARMUP)
    ratio, quartiles = median_and_quartiles(ratios(times["theirs"], times["ours"]))
    before, after = statistics.median(times["theirs"]), statistics.median(times["ours"])
    return {"seconds": before, "our_seconds": after, "speed_ratio": ratio, "speed_ratio_quartiles": quartiles}


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    rows = []
    for row in result["rows"]:
        times = [f"{row[name] * 1e3:.2f} ms" for name in ("seconds", "our_seconds")]
        rows.append([row["part"], *times, f"{row['speed_ratio']:.2f}", interval(row["speed_ratio_quartiles"])])
    header = ["part", "PyTorch or fairseq", "this plugin", "times as fast", "quartiles"]
    return table_with_note(header, rows, "lrrrr", result, f"{medians(result)} All numbers are float32.")


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_rounds(parser, 21)
    add_threads(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [{"part": name, **measure(*steps, args.rounds)} for name, steps in parts().items()]
    result = {"machine": machine("cpu"), "rounds": args.rounds, "rows": rows}
    print_and_write("parts", result, markdown, args.output)


if __name__ == "__main__":
    main()

"""Check that a GPU computes what it should: ``benchmarks/gpu.sh`` runs each of these parts.

    python -m benchmarks.gpu_checks parity      loss and gradient in float32 against float64 on the CPU, every scheme
    python -m benchmarks.gpu_checks compile     --compile against the same model without it
    python -m benchmarks.gpu_checks resume      a bf16 run that was stopped and continued against one that was not
    python -m benchmarks.gpu_checks parallel    two processes, on two GPUs, against one
    python -m benchmarks.gpu_checks memory      the memory of an update against the count that scripts/train.sh goes by

Every line of the table has what was measured, the limit, and the reason of the limit.  The exit status is 1 if a check
failed.  ``--device cpu`` with a small model tries the program on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from b2t_common.names import STACKS
from b2t_fairseq.kernels.compilation import CompiledInTraining, compile_layers
from benchmarks import gpu_runs, trainers
from benchmarks.arguments import add_model_size, benchmark_parser, default_device, model_size
from benchmarks.measuring import machine
from benchmarks.train_step import FUSED, build, loss_of, make_batch, variants
from benchmarks.write_result import print_and_write, table_with_note

# float32 has 24 bits and TF32 has 11: a product in TF32 is wrong by 5e-4, one in float32 by 6e-8.
FLOAT32_LIMIT = 2e-5
FLOAT32_REASON = "float32 rounds by 6e-8, TF32 by 5e-4"
SHAPES = 6  # in which batches differ that ``--compile`` is checked with


@dataclass(frozen=True)
class Check:
    """What was checked.

    Attributes:
        name: in words.
        passed: ``None`` if the check was not run.
        measured: the number.
        limit: the largest number with which the check passes.
        reason: of the limit, or why the check was not run.
    """

    name: str
    passed: bool | None
    measured: float | None
    limit: float | None
    reason: str


def at_most(name: str, measured: float, limit: float, reason: str) -> Check:
    """Return a check that passes if a number is finite and at most the limit."""
    return Check(name, math.isfinite(measured) and measured <= limit, measured, limit, reason)


def loss_and_gradient(model: nn.Module, batch: tuple[Tensor, ...], fused: bool) -> tuple[float, Tensor]:
    """Return the loss of one batch, and its gradient by all parameters as one float64 vector on the CPU."""
    model.zero_grad()
    loss = loss_of(model, batch, fused)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return loss.item(), torch.cat([gradient.flatten().double().cpu() for gradient in gradients])


def distances(result: tuple[float, Tensor], reference: tuple[float, Tensor]) -> tuple[float, float]:
    """Return the relative distances of loss and gradient from those of the reference."""
    loss, gradient = result
    return abs(loss / reference[0] - 1), float((gradient - reference[1]).norm() / reference[1].norm())


def on(args: argparse.Namespace, device: str, dtype: torch.dtype) -> argparse.Namespace:
    """Return the arguments of :func:`benchmarks.train_step.build` for a device and a precision."""
    return argparse.Namespace(**{**vars(args), "device": device, "dtype": dtype})


def parity(args: argparse.Namespace) -> Iterable[Check]:
    """Compare every scheme and strategy, and the fused loss, in float32 with fairseq's operations in float64."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    batch = make_batch(args)
    for name, (arch, flags) in variants(args.layers).items():
        # A ReLU that rounding takes to the other side of zero would change the gradient by more than rounding.
        flags = {**flags, "dropout": 0.0, "activation_fn": "gelu"}
        exact = flags if arch == "transformer" else {**flags, "kernels": "fairseq"}
        reference = loss_and_gradient(
            build(arch, exact, on(args, "cpu", torch.float64)).train(), tuple(tensor.cpu() for tensor in batch), False
        )
        model = build(arch, flags, on(args, args.device, torch.float32)).train()
        loss, gradient = distances(loss_and_gradient(model, batch, FUSED in name), reference)
        yield at_most(f"`{name}`: loss", loss, FLOAT32_LIMIT, FLOAT32_REASON)
        yield at_most(f"`{name}`: gradient", gradient, FLOAT32_LIMIT, FLOAT32_REASON)


def compilation(args: argparse.Namespace) -> Iterable[Check]:
    """Compare models with and without ``--compile``, and count the graphs for batches of different shapes."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    flags, batch = {"residual": "b2t", "dropout": 0.0}, make_batch(args)
    reference = loss_and_gradient(
        build("b2t_transformer", flags, on(args, "cpu", torch.float64)).train(),
        tuple(tensor.cpu() for tensor in batch),
        False,
    )
    for dtype in (torch.float32, torch.bfloat16):
        model = build("b2t_transformer", flags, on(args, args.device, dtype)).train()
        _, eager = distances(loss_and_gradient(model, batch, True), reference)
        compile_layers([*model.encoder.layers, *model.decoder.layers])
        _, compiled = distances(loss_and_gradient(model, batch, True), reference)
        name = f"gradient in {str(dtype).removeprefix('torch.')}"
        reason = f"without `--compile` the distance from float64 is {eager:.1e}; fused operations round less often"
        yield at_most(f"`--compile`: {name}", compiled, 1.5 * eager + 1e-6, reason)
    failed = CompiledInTraining.is_unavailable
    reason = CompiledInTraining.failure or "otherwise training goes on without it, and is slower"
    yield Check("`--compile`: PyTorch can compile on this machine", not failed, None, None, reason)
    if not failed:
        yield graphs(model, args)


def graphs(model: nn.Module, args: argparse.Namespace) -> Check:
    """Count the graphs that a compiled model makes, after its first batch, for batches of ever new shapes."""
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    for number in range(1, SHAPES + 1):
        shape = {"length": args.length + number, "tokens": args.tokens + 64 * number}
        loss_and_gradient(model, make_batch(argparse.Namespace(**{**vars(args), **shape})), True)
    name = f"`--compile`: new graphs in {SHAPES} batches of other shapes"
    return at_most(
        name, counters["unique_graphs"] - before, len(STACKS), "a stack has one with padding and one without"
    )


def resume(args: argparse.Namespace) -> Iterable[Check]:
    """Compare a run that was stopped with one that was not, and with another one that was not."""
    distance, of_twins = gpu_runs.distances_of_resumed(args)
    # on a GPU sums are added in an order that changes from run to run
    reason = f"twice the difference of two runs that nothing stopped, {of_twins:.1e}"
    yield at_most("bf16, stopped and continued: largest difference of a weight", distance, 2 * of_twins, reason)


def parallel(args: argparse.Namespace) -> Iterable[Check]:
    """Compare training by two processes with training by one."""
    name = "two processes against one, float32: largest difference of a weight"
    if args.device == "cuda" and torch.cuda.device_count() < 2:
        yield Check(name, None, None, None, "there is one GPU")
        return
    reason = "the gradient is summed in another order, and Adam divides small gradients by their own size"
    yield at_most(name, gpu_runs.distance_of_two_processes(args), 1e-4, reason)


def memory(args: argparse.Namespace) -> Iterable[Check]:
    """Compare the largest memory of an update with what scripts/train.sh goes by."""
    peak, counted, total = gpu_runs.peak_and_count(args)
    name = f"memory of an update in batches of {args.max_tokens} tokens, relative to the count"
    yield at_most(name, peak / counted, 1.0, f"the count is {counted / 1e9:.2f} GB")
    if total:
        yield at_most(f"{name.split(',')[0]}, relative to the GPU's", peak / total, 0.9, "a tenth must stay free")


PARTS = {"parity": parity, "compile": compilation, "resume": resume, "parallel": parallel, "memory": memory}


def number(value: float | None) -> str:
    """Return a number for the table."""
    return "" if value is None else f"{value:.2g}"


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    outcomes = {True: "passed", False: "**failed**", None: "not run"}
    rows = [
        [check["name"], outcomes[check["passed"]], number(check["measured"]), number(check["limit"]), check["reason"]]
        for check in result["checks"]
    ]
    header = ["check", "result", "measured", "limit", "reason of the limit"]
    return table_with_note(header, rows, "llrrl", result, f"{result['size']}.")


def parse_args() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    add_model_size(parser)
    parser.add_argument("--tokens", type=int, default=1024, help="target tokens in the batch of parity and compile")
    parser.add_argument("--length", type=int, default=32, help="tokens in a sentence")
    parser.add_argument("--max-tokens", type=int, default=28672, help="tokens in a batch of the other parts")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with trainers.quiet():
        checks = [asdict(check) for check in PARTS[args.part](args)]
    result = {"machine": machine(args.device), "size": model_size(args), "checks": checks}
    print_and_write("gpu_checks", result, markdown, args.output)
    if any(check["passed"] is False for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Compare a deep model that grows out of a shallow one with one that is deep from the start, at equal counted FLOPs.

    bash scripts/quickstart.sh --corpus multi30k --config configs/small/growing.sh --work WORK --stop-stage 4
    python -m benchmarks.growing WORK/data --runs WORK/growing --output benchmarks/results/growing

The grown model: some updates with 3-3 layers, `b2t grow`, as many updates with 6-6 layers, with a new optimizer and a
new warm-up.  The other one: 6-6 layers from the start, with as many updates as give the same FLOPs.  Both end with the
learning rate at zero.  All runs use one thread.  The same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from b2t_cli.runs.run import read
from b2t_common import run_folder
from b2t_common.names import STACKS
from b2t_fairseq.counting import training_flops
from b2t_fairseq.settings.plan import plan_translation
from benchmarks import trainers
from benchmarks.arguments import benchmark_parser
from benchmarks.measuring import machine
from benchmarks.write_result import print_and_write, table_with_note

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = "configs/small/growing.sh"
SHALLOW, GROWN, DEEP = "shallow", "grown", "deep"
CURVE = 100  # updates between two validations


def flags_of(configuration: str) -> list[str]:
    """Return the flags of the model and of the training in a configuration of ``scripts/train.sh``."""
    script = '. "$1" && printf "%s\\n" "${model[@]}" "${training[@]}" --max-tokens "$max_tokens"'
    command = ["bash", "-c", script, "bash", str(ROOT / configuration)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def layers(number: int) -> list[str]:
    """Return the flags of a model with this number of layers in each stack."""
    return [word for stack in STACKS for word in (f"--{stack}-layers", str(number))]


def flops_of_an_update(data: str, flags: list[str], number: int) -> float:
    """Return the counted FLOPs of a mean update of a model with this number of layers in each stack."""
    with trainers.quiet():
        trainer = trainers.build_trainer(data, [*flags, *layers(number), "--save-dir", data], "cpu")
        pairs = trainers.training_data(trainer)
        source, target = float(pairs.src_sizes.mean()), float(pairs.tgt_sizes.mean())
        max_tokens = trainer.cfg.dataset.max_tokens
        batches = pairs.batch_by_size(pairs.ordered_indices(), max_tokens=max_tokens, required_batch_size_multiple=1)
        plan = plan_translation(trainer.cfg.model)
    sentences = len(pairs) / len(batches)
    # in units of one sentence pair of mean length, as all counts are linear in the number of pairs
    step = training_flops(plan, len(trainer.task.target_dictionary), 1, round(source), round(target))
    return sentences * step


def train(folder: Path, args: argparse.Namespace, flags: list[str], updates: int) -> None:
    """Train a run to its last update, or do nothing if it is there already."""
    if (folder / run_folder.LOG).is_file() and [update for update, _ in curve(folder)][-1:] == [updates]:
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [_b2t(), "train", args.data, "--save-dir", str(folder), *flags]
    command += ["--cpu", "--num-workers", "0", "--required-batch-size-multiple", "1", "--log-format", "simple"]
    command += ["--log-interval", "50", "--validate-interval-updates", str(CURVE)]
    with open(folder / run_folder.LOG, "a", encoding="utf-8") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=_one_thread(), cwd=ROOT)


def grow(run: Path, number: int, order: str) -> Path:
    """Grow the last model of a run; return the checkpoint."""
    grown = run / run_folder.GROWN
    command = [_b2t(), "grow", str(run), *layers(number), "--from", order]
    if not grown.is_file():
        subprocess.run(command, check=True, env=_one_thread(), cwd=ROOT)
    return grown


def curve(run: Path) -> list[tuple[int, float]]:
    """Return update and perplexity of each validation of a run."""
    validation = read(run.name, run / run_folder.LOG, run).log.validation()
    return [(int(u), float(ppl)) for u, ppl in zip(validation["update"], validation["ppl"], strict=True)]


def pair(seed: int, args: argparse.Namespace, flags: list[str], ratio: float) -> dict:
    """Train the grown and the deep model with one seed; return their curves.

    Args:
        seed: of all three runs.
        args: the command line.
        flags: of the model and of the training.
        ratio: FLOPs of an update of the shallow model, divided by those of the deep one.
    """
    folders = {name: args.runs / f"seed{seed}" / name for name in (SHALLOW, GROWN, DEEP)}
    updates = {SHALLOW: args.updates, GROWN: args.updates, DEEP: round(args.updates * (1 + ratio))}
    begin = time.time()
    for name, folder in folders.items():
        number = args.layers if name == SHALLOW else 2 * args.layers
        # the shallow run is the first half of one that would end with a rate of zero
        total = 2 * updates[name] if name == SHALLOW else updates[name]
        schedule = ["--max-update", str(updates[name]), "--total-num-update", str(total), "--seed", str(seed)]
        schedule += ["--warmup-updates", str(args.updates // 4)]
        start = []
        if name == GROWN:
            start = ["--finetune-from-model", str(grow(folders[SHALLOW], number, args.order))]
        train(folder, args, [*flags, *layers(number), *schedule, *start], updates[name])
    curves = {name: curve(folder) for name, folder in folders.items()}
    print(f"seed {seed}: {time.time() - begin:.0f} s, { ({name: c[-1] for name, c in curves.items()}) }", flush=True)
    return {"seed": seed, "updates": updates, "curves": curves}


def markdown(result: dict) -> str:
    """Return the result as Markdown: a row for each seed, then the means."""
    rows, ends = [], []
    for row in result["rows"]:
        end = {name: points[-1][1] for name, points in row["curves"].items()}
        ends.append(end)
        cells = [f"{end[name]:.2f}" for name in (SHALLOW, GROWN, DEEP)]
        rows.append([str(row["seed"]), *cells, f"{end[GROWN] - end[DEEP]:+.2f}"])
    differences = [end[GROWN] - end[DEEP] for end in ends]
    means = [f"{statistics.mean(end[name] for end in ends):.2f}" for name in (SHALLOW, GROWN, DEEP)]
    spread = f" ± {statistics.stdev(differences):.2f}" if len(differences) > 1 else ""
    rows.append(["mean", *means, f"{statistics.mean(differences):+.2f}{spread}"])
    updates, n = result["rows"][0]["updates"], result["layers"]
    header = ["seed", f"{n}-{n} layers, before", "grown", f"{2 * n}-{2 * n} from the start", "difference"]
    note = (
        f"Perplexity on the validation set at the end, the lower the better. Grown: {updates[SHALLOW]} updates with "
        f"{n}-{n} layers, `b2t grow` with `--from {result['order']}`, {updates[GROWN]} updates with {2 * n}-{2 * n}; "
        f"from the start: {updates[DEEP]} updates. An update of {n}-{n} layers has {result['flops_ratio']:.3f} of the "
        f"counted FLOPs of one of {2 * n}-{2 * n}, so both have {result['flops'] / 1e12:.2f} TFLOP in all. The last "
        "row has means and the sample standard deviation of the differences. Rates were not tuned for either. "
        f"Flags: {result['configuration']}."
    )
    return table_with_note(header, rows, "lrrrr", result, note)


def _b2t() -> str:
    """Return the command that is installed beside this Python."""
    return str(Path(sys.executable).with_name("b2t"))


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("data", metavar="DATA", help="binary data of fairseq-preprocess")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="where the runs go, and continue")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--updates", type=int, default=200, help="of the shallow model, and of the grown one")
    parser.add_argument("--layers", type=int, default=3, help="of each stack of the shallow model")
    parser.add_argument("--order", default="cycle", help="--from of b2t grow")
    args = parser.parse_args()
    args.runs = args.runs.resolve()
    flags = flags_of(CONFIGURATION)
    shallow, deep = (flops_of_an_update(args.data, flags, number) for number in (args.layers, 2 * args.layers))
    result = {
        "machine": machine("cpu"),
        "configuration": CONFIGURATION,
        "layers": args.layers,
        "order": args.order,
        "flops_ratio": shallow / deep,
        "flops": args.updates * (shallow + deep),
        "rows": [pair(seed, args, flags, shallow / deep) for seed in args.seeds],
    }
    print_and_write("growing", result, markdown, args.output)


if __name__ == "__main__":
    main()

"""The generated tables of docs/reproduction.md: configurations, published results, computed cost."""

from __future__ import annotations

import functools
import re
import subprocess
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq import options

import b2t_fairseq  # noqa: F401  registers the architectures
from b2t_cli.scoring import published
from b2t_cli.scoring.layout import YEARS, millions
from b2t_cli.scoring.matching import matching
from b2t_cli.tables import markdown_table, number
from b2t_fairseq.building import parameters_without_memory
from b2t_fairseq.counting import training_flops
from b2t_fairseq.initialization import DEFAULT
from b2t_fairseq.settings.fields import as_namespace
from b2t_fairseq.settings.plan import Plan, plan_translation
from b2t_fairseq.sharing import NO_SHARING

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "configs/wmt14_en_de"
VOCABULARY = 32768

# The computed cost assumes these.
SENTENCE = 28  # subwords of a sentence on either side, including its end symbol
UTILIZATION = 0.35  # of the peak for dense bf16 products
OVER_NODES = 0.9  # part of the speed that is left when two nodes share an update
MACHINES = {  # FLOP/s of all GPUs together
    "1 x H200": 989e12,
    "8 x A100": 8 * 312e12,
    "2 x 8 x A100": OVER_NODES * 16 * 312e12,
}


@dataclass(frozen=True)
class Configuration:
    """A configuration of a paper's model, parsed.

    Attributes:
        folder: its folder in the project.
        name: the file's name without ``.sh``.
        arxiv: the paper whose recipe it sources.
        settings: all of fairseq's settings, as its flags give them.
        plan: the plan of the model.
        max_update: updates of the run.
        tokens_per_update: tokens of an update, on either side, if no batch has padding.
        parameters: number of parameters; tied ones count once.
    """

    folder: str
    name: str
    arxiv: str
    settings: Namespace
    plan: Plan
    max_update: int
    tokens_per_update: int
    parameters: int

    def update_flops(self) -> int:
        """Return the FLOPs of one update whose token slots are all filled."""
        sentences = self.tokens_per_update // SENTENCE
        return training_flops(self.plan, VOCABULARY, sentences, SENTENCE, SENTENCE)

    def run_flops(self) -> int:
        return self.max_update * self.update_flops()

    def checkpoint_bytes(self) -> int:
        return checkpoint_bytes(self.parameters)

    def published(self) -> dict[str, Any] | None:
        """Return the result of this model in the paper whose recipe it sources, ``None`` if the paper has none."""
        return next(iter(matching(vars(self.settings), self.arxiv)), None)


def checkpoint_bytes(parameters: int) -> int:
    """Return the bytes of a checkpoint's tensors: the weights and Adam's two moments, all in fp32."""
    return (1 + 2) * 4 * parameters


@functools.cache
def configurations() -> list[Configuration]:
    """Return all configurations, sorted by paper, depth and width."""
    all_files = [read(path) for path in sorted((ROOT / FOLDER).glob("[!_]*.sh"))]
    return sorted(all_files, key=lambda c: (c.arxiv, c.settings.encoder_layers, c.settings.encoder_embed_dim))


def read(path: Path, vocabulary: int = VOCABULARY) -> Configuration:
    """Return a configuration as ``scripts/train.sh`` and fairseq read it.

    Args:
        path: the file.
        vocabulary: symbols of the dictionary.
    """
    shell = '. "$1"; printf "%s\\0" "$max_update" "$tokens_per_update" "${model[@]}" "${training[@]}"'
    command = ["bash", "-euc", shell, "bash", str(path)]
    max_update, tokens, *flags = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    settings = as_namespace(options.parse_args_and_arch(options.get_training_parser(), ["data", *flags[:-1]]))
    recipe = re.search(r'/(_\w+\.sh)"', path.read_text(encoding="utf-8"))[1]
    arxiv = re.search(r"arXiv ([\d.]+\d)", path.with_name(recipe).read_text(encoding="utf-8"))[1]
    return Configuration(
        folder=path.parent.relative_to(ROOT).as_posix(),
        name=path.stem,
        arxiv=arxiv,
        settings=settings,
        plan=plan_translation(settings),
        max_update=int(max_update),
        tokens_per_update=int(tokens),
        parameters=parameters_without_memory(vars(settings), vocabulary),
    )


def configurations_table() -> str:
    """Return every configuration with its command and the average that a paper reports."""
    rows = []
    for c in configurations():
        command = f"`bash scripts/train.sh {FOLDER}/{c.name}.sh`"
        rows.append([link(c), describe_model(c), _recipe(c), command, millions(c.parameters), _average(c)])
    header = ["configuration", "model", "recipe", "command", "parameters", "published BLEU"]
    return markdown_table(header, rows, "llllrr")


def published_table() -> str:
    """Return the papers' results by test set, as far as the papers give them."""
    rows = []
    for c in configurations():
        row = c.published()
        if row is not None:
            scores = [*row.get("bleu", [None] * len(YEARS)), row["average"]]
            paper = f"[{row['arxiv']}](https://arxiv.org/abs/{row['arxiv']})"
            rows.append([link(c), paper, row["model"], *map(number, scores), row.get("note", "")])
    header = ["configuration", "arXiv", "model there", *YEARS, "average", "remark"]
    columns = "lll" + "r" * (len(YEARS) + 1) + "l"
    return f"{markdown_table(header, rows, columns)}\n\n{published.about()}."


def cost_table() -> str:
    """Return what a run of each configuration needs: FLOPs, hours, disk space."""
    rows = []
    for c in configurations():
        flops = [f"{c.update_flops() / 1e12:,.0f}", f"{c.max_update:,}", f"{c.run_flops() / 1e18:.1f}"]
        times = [f"{c.run_flops() / (UTILIZATION * peak) / 3600:.1f}" for peak in MACHINES.values()]
        # besides those of the last epochs there are checkpoint_last and checkpoint_best
        kept = c.settings.keep_last_epochs + 2
        disk = [f"{c.checkpoint_bytes() / 1e9:.2f}", f"{kept * c.checkpoint_bytes() / 1e9:.0f}"]
        rows.append([link(c), *flops, *times, *disk])
    header = ["configuration", "TFLOP an update", "updates", "EFLOP a run"]
    header += [f"hours, {machine}" for machine in MACHINES]
    header += ["GB a checkpoint", "GB a run"]
    return f"{markdown_table(header, rows, 'l' + 'r' * (len(header) - 1))}\n\n{_cost_assumptions()}"


def _cost_assumptions() -> str:
    tokens, pairs = configurations()[0].tokens_per_update, _pairs()
    updates = pairs * SENTENCE / tokens
    return (
        f"Computed from counted FLOPs, not measured. Assumed: a sentence has {SENTENCE} subwords on either side; an "
        f"update has no padding, so that all of its {tokens:,} tokens count on either side (an upper bound); a GPU "
        f"reaches {UTILIZATION:.0%} of its dense bf16 peak (H200 989 TFLOP/s, A100 312 TFLOP/s); two nodes keep "
        f"{OVER_NODES:.0%} of that. With such sentences an epoch of the {pairs:,} raw pairs has {updates:.0f} updates. "
        "1 TFLOP is 10^12 operations, 1 EFLOP 10^18, 1 GB 10^9 bytes."
    )


def speed_table() -> str:
    """Return the training speeds that the sharing paper measured, and those that follow from the FLOPs alone."""
    speeds = [(c, (c.published() or {}).get("training_speed")) for c in configurations()]
    base = next(c for c, speed in speeds if speed == 1)
    rows = [
        [link(c), number(base.update_flops() / c.update_flops()), number(speed)]
        for c, speed in speeds
        if speed is not None
    ]
    return markdown_table(["configuration", "speed by FLOPs", "speed in the paper"], rows, "lrr")


def describe_model(c: Configuration) -> str:
    """Return the model of a configuration in words."""
    args, encoder = c.settings, c.plan.stack("encoder")
    text = f"{encoder.scheme.title}, {args.encoder_layers}-{args.decoder_layers} layers"
    if args.layer_sharing != NO_SHARING:
        text += f" from {encoder.num_sets} {'set' if encoder.num_sets == 1 else 'sets'} ({args.layer_sharing})"
    return f"{text}, width {args.encoder_embed_dim}"


def _recipe(c: Configuration) -> str:
    args = c.settings
    clip = f"clip {args.clip_norm}" if args.clip_norm else "no clipping"
    parts = [f"lr {args.lr[0]}", f"warm-up {args.warmup_updates:,}", clip, f"dropout {args.dropout}"]
    if args.weight_decay:
        parts.append(f"weight decay {args.weight_decay}")
    if args.encoder_word_dropout:
        parts.append(f"word dropout {args.encoder_word_dropout}")
    if c.plan.initialization.name != DEFAULT:
        parts.append(f"{c.plan.initialization.name.replace('_', '-')} initialization")
    return ", ".join(parts)


def _average(c: Configuration) -> str:
    row = c.published()
    if row is not None:
        return number(row["average"]) if row["average"] else row["note"].split(";")[0]
    known = published.results("rows") + published.results("averages")
    tried = {(residual, model["layer_sharing"]) for model in known for residual in model["residual"]}
    return "-" if (c.settings.residual, c.settings.layer_sharing) in tried else "not tried by the papers"


def _pairs() -> int:
    """Return the number of raw sentence pairs in the default training data."""
    table = (ROOT / "scripts/corpus/wmt14_archives.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    return sum(int(row[3]) for row in rows if row[3] != "-")


def link(c: Configuration) -> str:
    """Return the link to a configuration, for a page in docs."""
    return f"[{c.name}](../{c.folder}/{c.name}.sh)"

"""The generated tables of docs/reproduction.md: configurations, published results, computed cost."""

from __future__ import annotations

import functools
import re
import subprocess
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fairseq import options

import b2t_fairseq  # noqa: F401  registers the architectures
from b2t_cli.scoring import published
from b2t_cli.scoring.layout import YEARS, millions
from b2t_cli.scoring.matching import matching
from b2t_cli.tables import number
from b2t_fairseq.dictionaries import placeholder
from b2t_fairseq.flops import training_flops
from b2t_fairseq.models.transformer import B2TTransformerModel
from b2t_fairseq.residual import scheme_class
from b2t_fairseq.settings.fields import as_namespace
from b2t_fairseq.sharing import none

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "configs/wmt14_en_de"
VOCABULARY = 32768

# what the computed cost assumes
SENTENCE = 28  # subwords on either side, the end of the sentence among them
UTILIZATION = 0.35  # of the dense bf16 peak
OVER_NODES = 0.9  # of the speed that is left when an update is spread over two nodes
MACHINES = {  # FLOP/s of all GPUs together
    "1 x H200": 989e12,
    "8 x A100": 8 * 312e12,
    "2 x 8 x A100": OVER_NODES * 16 * 312e12,
}


@dataclass(frozen=True)
class Configuration:
    """A file of ``configs/wmt14_en_de``, parsed.

    Attributes:
        name: the file's name without ``.sh``.
        arxiv: the paper whose recipe it sources.
        settings: what fairseq makes of its flags.
        max_update: updates of the run.
        tokens_per_update: tokens of an update, on either side, if no batch has padding.
        parameters: numbers in the model, tied ones once.
    """

    name: str
    arxiv: str
    settings: Namespace
    max_update: int
    tokens_per_update: int
    parameters: int

    def update_flops(self) -> int:
        """Return the FLOPs of one update whose token slots are all filled."""
        sentences = self.tokens_per_update // SENTENCE
        return training_flops(self.settings, VOCABULARY, sentences, SENTENCE, SENTENCE)

    def run_flops(self) -> int:
        return self.max_update * self.update_flops()

    def checkpoint_bytes(self) -> int:
        return checkpoint_bytes(self.parameters)

    def published(self) -> dict[str, Any] | None:
        """Return the result of this model in the paper whose recipe it has: with scores by set, or an average only."""
        return next(iter(matching(vars(self.settings), self.arxiv)), None)


def checkpoint_bytes(parameters: int) -> int:
    """Return the size of a checkpoint's tensors: weights, and Adam's two moments of each parameter, all in fp32."""
    return (1 + 2) * 4 * parameters


@functools.cache
def configurations() -> list[Configuration]:
    """Return all configurations, by paper, depth and width."""
    found = [read(path) for path in sorted((ROOT / FOLDER).glob("[!_]*.sh"))]
    return sorted(found, key=lambda c: (c.arxiv, c.settings.encoder_layers, c.settings.encoder_embed_dim))


def read(path: Path) -> Configuration:
    """Return a configuration as ``scripts/train.sh`` and fairseq read it."""
    shell = '. "$1"; printf "%s\\0" "$max_update" "$tokens_per_update" "${model[@]}" "${training[@]}"'
    command = ["bash", "-euc", shell, "bash", str(path)]
    max_update, tokens, *flags = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    settings = as_namespace(options.parse_args_and_arch(options.get_training_parser(), ["data", *flags[:-1]]))
    recipe = re.search(r"/(_\w+_paper\.sh)", path.read_text(encoding="utf-8"))[1]
    arxiv = re.search(r"arXiv ([\d.]+\d)", path.with_name(recipe).read_text(encoding="utf-8"))[1]
    # on the meta device no memory is taken
    with torch.device("meta"):
        model = B2TTransformerModel.build_model(settings, _task())
    return Configuration(
        *(path.stem, arxiv, settings, int(max_update), int(tokens)),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


@functools.cache
def _task() -> SimpleNamespace:
    dictionary = placeholder(VOCABULARY)
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


def configurations_table() -> str:
    """Return every configuration with its command and the papers' average."""
    lines = [_row("configuration", "model", "recipe", "command", "parameters", "published BLEU"), _rule(4, 2)]
    for c in configurations():
        command = f"`bash scripts/train.sh {FOLDER}/{c.name}.sh`"
        lines.append(_row(_link(c), _model(c), _recipe(c), command, millions(c.parameters), _average(c)))
    return "\n".join(lines)


def published_table() -> str:
    """Return the papers' results by test set, as far as they are known."""
    lines = [_row("configuration", "arXiv", "model there", *YEARS, "average", "remark"), _rule(3, len(YEARS) + 1, 1)]
    for c in configurations():
        row = c.published()
        if row is not None:
            scores = [*row.get("bleu", [None] * len(YEARS)), row["average"]]
            link = f"[{row['arxiv']}](https://arxiv.org/abs/{row['arxiv']})"
            lines.append(_row(_link(c), link, row["model"], *map(number, scores), row.get("note", "")))
    return "\n".join([*lines, "", f"{published.about()}."])


def cost_table() -> str:
    """Return what a run of each configuration takes: FLOPs, hours, disk."""
    hours = [f"hours, {machine}" for machine in MACHINES]
    header = ["configuration", "TFLOP an update", "updates", "EFLOP a run", *hours, "GB a checkpoint", "GB a run"]
    lines = [_row(*header), _rule(1, len(header) - 1)]
    for c in configurations():
        flops = [f"{c.update_flops() / 1e12:,.0f}", f"{c.max_update:,}", f"{c.run_flops() / 1e18:.1f}"]
        times = [f"{c.run_flops() / (UTILIZATION * peak) / 3600:.1f}" for peak in MACHINES.values()]
        # beside those of the last epochs there are checkpoint_last and checkpoint_best
        kept = c.settings.keep_last_epochs + 2
        disk = [f"{c.checkpoint_bytes() / 1e9:.2f}", f"{kept * c.checkpoint_bytes() / 1e9:.0f}"]
        lines.append(_row(_link(c), *flops, *times, *disk))
    tokens, pairs = configurations()[0].tokens_per_update, _pairs()
    epoch = pairs * SENTENCE / tokens
    note = (
        f"Computed from counted FLOPs, not measured: no GPU was at hand. Assumed: {SENTENCE} subwords a sentence on "
        f"either side, all {tokens:,} token slots of an update filled on both (an upper bound), "
        f"{UTILIZATION:.0%} of the dense bf16 peak (H200 989 TFLOP/s, A100 312 TFLOP/s), and {OVER_NODES:.0%} of that "
        f"over two nodes. With such sentences an epoch of the {pairs:,} raw pairs has {epoch:.0f} updates. 1 TFLOP is "
        "10^12 operations, 1 EFLOP 10^18, 1 GB 10^9 bytes."
    )
    return "\n".join([*lines, "", note])


def speed_table() -> str:
    """Return the speeds that the sharing paper measured beside those that equal utilization would give."""
    rows = [(c, (c.published() or {}).get("training_speed")) for c in configurations()]
    base = next(c for c, speed in rows if speed == 1)
    lines = [_row("configuration", "speed by FLOPs", "speed in the paper"), _rule(1, 2)]
    for c, speed in rows:
        if speed is not None:
            lines.append(_row(_link(c), number(base.update_flops() / c.update_flops()), number(speed)))
    return "\n".join(lines)


def _model(c: Configuration) -> str:
    args = c.settings
    text = f"{scheme_class(args.residual).title}, {args.encoder_layers}-{args.decoder_layers} layers"
    if args.layer_sharing != none.__name__:
        sets = args.encoder_unique_layers
        text += f" from {sets} {'sets' if sets > 1 else 'set'} ({args.layer_sharing})"
    return f"{text}, width {args.encoder_embed_dim}"


def _recipe(c: Configuration) -> str:
    args = c.settings
    clip = f"clip {args.clip_norm}" if args.clip_norm else "no clipping"
    text = f"lr {args.lr[0]}, warm-up {args.warmup_updates:,}, {clip}, dropout {args.dropout}"
    if args.encoder_word_dropout:
        text += f", word dropout {args.encoder_word_dropout}"
    return text + ", depth-scaled initialization" * args.depth_scaled_init


def _average(c: Configuration) -> str:
    row = c.published()
    if row is not None:
        return number(row["average"]) if row["average"] else row["note"].split(";")[0]
    tried = {(residual, known["layer_sharing"]) for known in _known() for residual in known["residual"]}
    is_new = (c.settings.residual, c.settings.layer_sharing) not in tried
    return "not tried by the papers" if is_new else "-"


def _known() -> list[dict[str, Any]]:
    return published.results("rows") + published.results("averages")


def _pairs() -> int:
    """Return the raw pairs of the default training data."""
    table = (ROOT / "scripts/corpus/wmt14_archives.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    return sum(int(row[3]) for row in rows if row[3] != "-")


def _link(c: Configuration) -> str:
    return f"[{c.name}](../{FOLDER}/{c.name}.sh)"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(text: int, numbers: int, text_after: int = 0) -> str:
    return _row(*["---"] * text, *["--:"] * numbers, *["---"] * text_after)

"""The generated tables of the methods: residual schemes, sharing strategies, this plugin's flags."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from b2t_cli.tables import markdown_table
from b2t_common.names import STACKS, flag
from b2t_fairseq.building import parameters_without_memory
from b2t_fairseq.initialization import INITIALIZATIONS
from b2t_fairseq.kernels import KERNELS
from b2t_fairseq.normalization import NORMS
from b2t_fairseq.positions import POSITIONS
from b2t_fairseq.residual import B2T, SCHEMES, PostLN, PreLN, ResidualScheme
from b2t_fairseq.settings.fields import own_fields
from b2t_fairseq.sharing import NO_SHARING, SHARE_SUBLAYERS, STRATEGIES, layer_indices

ROOT = Path(__file__).resolve().parents[2]


_IN_FIGURE = (PostLN, PreLN, B2T)


def schemes_table(schemes: Iterable[type[ResidualScheme]] = tuple(SCHEMES.values())) -> str:
    """Return residual schemes: flag, equation, paper."""
    rows = []
    for scheme in schemes:
        # ResiDual's equation says what its norm after the stack does.
        has_ending = scheme.norm_after_stack and scheme.num_streams == 1
        ending = "; one more LN after the stack" if has_ending else ""
        rows.append([f"`{scheme.name}`", f"`{scheme.equation}`{ending}", f"[{scheme.title}]({scheme.paper})"])
    return markdown_table(["`--residual`", "equation", "paper"], rows, "lll")


def main_schemes() -> str:
    """Return the schemes of the figure with their equations, and the names of all others."""
    others = [f"`{scheme.name}`" for scheme in SCHEMES.values() if scheme not in _IN_FIGURE]
    more = f"{len(others)} more, with their [equations and papers](docs/methods.md#residual-schemes): "
    return f"{schemes_table(_IN_FIGURE)}\n\n{more}{', '.join(others)}."


def initializations_table() -> str:
    """Return the initializations: flag, rule, paper."""
    rows = [
        [f"`{name}`", one.rule, f"[{one.paper.split('/')[-1]}]({one.paper})" if one.paper else ""]
        for name, one in INITIALIZATIONS.items()
    ]
    return markdown_table(["`--init`", "weights of the layers", "arXiv"], rows, "lll")


def scheme_costs_table() -> str:
    """Return what each residual scheme costs against Post-LN, as measured, and when to use it."""
    with open(ROOT / "benchmarks/results/train_step.json", encoding="utf-8") as file:
        measured = {row["variant"]: row for row in json.load(file)["rows"]}
    post_ln = measured[f"--residual {PostLN.name}"]
    rows = []
    for name, scheme in SCHEMES.items():
        row = measured.get(f"--residual {name}")
        costs = ["not measured", "not measured"]
        if row is not None:
            costs = [f"{row[number] / post_ln[number]:.2f}" for number in ("time_ratio", "peak_bytes")]
        extra = _parameters(scheme) - _parameters(PostLN)
        rows.append([f"`{name}`", scheme.when_to_use, f"{extra:+,}" if extra else "0", *costs])
    header = ["`--residual`", "when to use it", "extra parameters", "step time", "memory"]
    return markdown_table(header, rows, "llrrr")


def norms_table() -> str:
    """Return the norms: flag, equation, paper, when to use it."""
    return _registry_table("--norm", NORMS)


def positions_table() -> str:
    """Return the kinds of positions: flag, equation, paper, when to use it."""
    return _registry_table("--positions", POSITIONS)


def _registry_table(name: str, registry: Mapping[str, Any]) -> str:
    rows = [
        [f"`{key}`", f"`{entry.equation}`", f"[{entry.title}]({entry.paper})", entry.when_to_use]
        for key, entry in registry.items()
    ]
    return markdown_table([f"`{name}`", "equation", "paper", "when to use it"], rows, "llll")


@functools.cache
def _parameters(scheme: type[ResidualScheme]) -> int:
    """Return the number of parameters of a model of the size that ``benchmarks.train_step`` measures on a CPU."""
    size = {"encoder_embed_dim": 256, "encoder_ffn_embed_dim": 1024}
    heads = {f"{stack}_attention_heads": 4 for stack in STACKS}
    return parameters_without_memory({"residual": scheme.name, "share_all_embeddings": True, **size, **heads}, 4000)


def strategies_table(names: Sequence[str] = tuple(STRATEGIES)) -> str:
    """Return sharing strategies: flag, rule, and the parameter sets that they give to N layers."""
    shapes = [(6, 3), (9, 3)]
    rows = []
    for name in names:
        if name != NO_SHARING:
            rule = " ".join((STRATEGIES[name].__doc__ or "").split(":")[0].split()).replace("``", "`")
            sets = [" ".join(map(str, layer_indices(name, n, m))) for n, m in shapes]
            rows.append([f"`{name}`", rule, *sets])
    header = ["`--layer-sharing`", "rule", *(f"N={n}, M={m}" for n, m in shapes)]
    return markdown_table(header, rows, "l" * len(header))


def flags_table() -> str:
    """Return this plugin's own flags, with their defaults and help texts."""
    choices = {
        "residual": SCHEMES,
        "norm": NORMS,
        "positions": POSITIONS,
        "share_sublayers": SHARE_SUBLAYERS,
        "init": INITIALIZATIONS,
        "kernels": KERNELS,
    }
    values = {int: "M", float: "P", str: "FILE"}
    named = {"branch_norm_updates": " T", "layer_sharing": " {STRATEGY,LIST}"}
    named |= {"power_norm_warmup": " UPDATES", "shape_offsets": " K"}
    rows = []
    for setting, kind, field in own_fields():
        if setting in choices:
            value = f" {{{','.join(choices[setting])}}}"
        else:
            kind = getattr(kind, "__args__", (kind,))[0]
            value = named.get(setting) or (f" {values[kind]}" if kind in values else "")
        name = flag(setting)
        if field.default is True:
            name += f"`, `{flag(f'no_{setting}')}"
        default = "" if field.default in (None, False, True) else f"`{field.default}`"
        rows.append([f"`{name}{value}`", default, field.metadata["help"]])
    return markdown_table(["flag", "default", "what it does"], rows, "lll")

#!/usr/bin/env python3
"""Write the generated parts of README.md and docs/*.md: tables from the registries and the configurations, results from
the files that commands wrote.

    python docs/build/write_tables.py            rewrite all
    python docs/build/write_tables.py --check    exit with 1 if one of them is not what would be written

A generated part stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import tables_claims  # noqa: E402
import tables_reproduction  # noqa: E402

from b2t_common.files import write_whole  # noqa: E402
from b2t_common.names import flag  # noqa: E402
from b2t_fairseq.kernels import KERNELS  # noqa: E402
from b2t_fairseq.residual import SCHEMES, PostLN  # noqa: E402
from b2t_fairseq.settings.fields import B2TTransformerConfig  # noqa: E402
from b2t_fairseq.settings.stock import StockTransformerConfig  # noqa: E402
from b2t_fairseq.sharing import STRATEGIES, layer_indices, none  # noqa: E402
from claims import evidence  # noqa: E402


def flags_table() -> str:
    """Return this plugin's own flags."""
    stock = {field.name for field in dataclasses.fields(StockTransformerConfig)}
    choices = {"residual": SCHEMES, "layer_sharing": STRATEGIES, "kernels": KERNELS}
    values = {int: "M", float: "P", str: "FILE"}
    lines = ["| flag | default | what it does |", "| --- | --- | --- |"]
    for field in dataclasses.fields(B2TTransformerConfig):
        if field.name in stock:
            continue
        if field.name in choices:
            value = f" {{{','.join(choices[field.name])}}}"
        else:
            kind = getattr(field.type, "__args__", (field.type,))[0]
            value = f" {values[kind]}" if kind in values else ""
        default = "" if field.default in (None, False) else f"`{field.default}`"
        lines.append(f"| `{flag(field.name)}{value}` | {default} | {field.metadata['help']} |")
    return "\n".join(lines)


def schemes_table() -> str:
    """Return the residual schemes: paper, equation, cost against Post-LN as measured, when to choose each."""
    with open(ROOT / "benchmarks/results/train_step.json", encoding="utf-8") as file:
        rows = {row["variant"]: row for row in json.load(file)["rows"]}
    post_ln = rows[f"--residual {PostLN.name}"]
    header = ["`--residual`", "paper", "equation", "extra parameters", "step time", "memory", "when to choose it"]
    lines = [f"| {' | '.join(header)} |", "| --- | --- | --- | --: | --: | --: | --- |"]
    for name, scheme in SCHEMES.items():
        ending = "; the stack ends with one more LN" if scheme.norm_after_stack else ""
        row, cost = rows.get(f"--residual {name}"), "not measured | | "
        if row is not None:
            parameters = row["parameters"] - post_ln["parameters"]
            time, memory = row["time_ratio"] / post_ln["time_ratio"], row["peak_bytes"] / post_ln["peak_bytes"]
            cost = f"{f'{parameters:+,}' if parameters else 0} | {time:.2f} | {memory:.2f}"
        lines.append(
            f"| `{name}` | [{scheme.title}]({scheme.paper}) | `{scheme.equation}`{ending} | {cost} | {scheme.when_to_use} |"
        )
    return "\n".join(lines)


def strategies_table() -> str:
    """Return the sharing strategies with the sets that they give to N layers."""
    shapes = [(6, 3), (9, 3), (6, 1)]
    header = " | ".join(f"N={n}, M={m}" for n, m in shapes)
    lines = [f"| `--layer-sharing` | {header} |", "| --- |" + " --- |" * len(shapes)]
    for name in STRATEGIES:
        if name != none.__name__:
            sets = [" ".join(map(str, layer_indices(name, n, m))) for n, m in shapes]
            lines.append(f"| `{name}` | {' | '.join(sets)} |")
    return "\n".join(lines)


def included(name: str) -> str:
    """Return a file that a command wrote."""
    return (ROOT / name).read_text(encoding="utf-8").strip()


def readme_parts() -> dict[str, str]:
    """Return all generated parts of README.md by name."""
    return {
        "flags": flags_table(),
        "schemes": schemes_table(),
        "strategies": strategies_table(),
        "quickstart result": included("docs/results/quickstart_grammar.md"),
        "multi30k result": included("docs/results/quickstart_multi30k.md"),
        "training speed": included("benchmarks/results/training_speed.md"),
        "decoding speed": included("benchmarks/results/decoding_speed.md"),
        "ctranslate2 speed": included("benchmarks/results/ctranslate2_speed.md"),
        "small run": included("docs/results/mix.md"),
        "small language model": included("docs/results/lm_mix.md"),
    }


def reproduction_parts() -> dict[str, str]:
    """Return all generated parts of docs/reproduction.md by name."""
    return {
        "configurations": tables_reproduction.configurations_table(),
        "published": tables_reproduction.published_table(),
        "cost": tables_reproduction.cost_table(),
        "speed": tables_reproduction.speed_table(),
        "small run": included("docs/results/mix.md"),
        "scale": included("benchmarks/results/prepare_at_scale.md"),
    }


def speed_parts() -> dict[str, str]:
    """Return all generated parts of docs/speed.md by name."""
    files = {"schemes and strategies": "train_step", "decoding of a trained model": "decoding_speed_trained"}
    names = ["training speed", "training steps", "parts", "large vocabulary", "loss curve", "decoding speed"]
    names += ["ctranslate2 speed", "checkpoint size", "recompilations", "training memory"]
    files |= {name: name.replace(" ", "_") for name in names}
    return {name: included(f"benchmarks/results/{file}.md") for name, file in files.items()}


def results_parts() -> dict[str, str]:
    """Return all generated parts of docs/results.md by name."""
    found = evidence.read()
    return {
        "verdicts": tables_claims.verdicts_table(found),
        "rules": tables_claims.rules_table(),
        "conditions": tables_claims.conditions(found),
        "runs": tables_claims.runs_table(found),
        "comparisons": tables_claims.comparisons_table(found),
        "gradients": tables_claims.gradients_table(found),
        "sharing speed": included("claims/results/speed.md"),
    }


FILES: dict[str, Callable[[], dict[str, str]]] = {
    "README.md": readme_parts,
    "docs/reproduction.md": reproduction_parts,
    "docs/speed.md": speed_parts,
    "docs/results.md": results_parts,
}


def rewrite(name: str, text: str) -> str:
    """Return a file's text with every generated part replaced.

    Raises:
        ValueError: a part's markers are missing.
    """
    for part, content in FILES[name]().items():
        pattern = rf"(<!-- {part} -->\n).*?(\n<!-- end of {part} -->)"
        text, count = re.subn(
            pattern, lambda found, content=content: found[1] + content + found[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"{name} has {count} parts <!-- {part} --> ... <!-- end of {part} -->, not one")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    # a line for every model that is built
    logging.disable(logging.INFO)
    outdated = []
    for name in FILES:
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = rewrite(name, old)
        if new == old:
            continue
        outdated.append(name)
        if not args.check:
            write_whole({path: new.encode()})
    if args.check and outdated:
        sys.exit(f"out of date: {', '.join(outdated)}; run python docs/build/write_tables.py")


if __name__ == "__main__":
    main()

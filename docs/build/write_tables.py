"""Write the generated parts of README.md and docs/*.md: tables from the registries and the configurations, results from
the files that commands wrote.

    python -m docs.build.write_tables            rewrite all
    python -m docs.build.write_tables --check    exit with 1 if one of them is not what would be written

A generated part stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

from b2t_common.files import write_whole
from b2t_fairseq.sharing import OF_THE_PAPER
from claims import evidence
from claims import tables as tables_claims
from claims.study import records
from claims.study import tables as tables_study

from . import (
    tables_architecture,
    tables_cpus,
    tables_gpus,
    tables_iwslt,
    tables_methods,
    tables_reproduction,
    tables_results,
)

ROOT = Path(__file__).resolve().parents[2]


def included(name: str, page: str = "") -> str:
    """Return a file that a command wrote, for a page.

    Its links, which start at the project's folder, start at the page instead.
    """
    text = as_called_today((ROOT / name).read_text(encoding="utf-8").strip())
    return re.sub(r"\]\((?!https?:|#)", f"]({'../' * page.count('/')}", text)


def as_called_today(text: str) -> str:
    """Return a text in which commands of benchmarks, recorded when these were scripts, are those of modules."""
    return re.sub(r"python benchmarks/(\w+)\.py", r"python -m benchmarks.\1", text)


def readme_parts() -> dict[str, str]:
    """Return all generated parts of README.md by name."""
    return {
        "schemes": tables_methods.main_schemes(),
        "strategies": tables_methods.strategies_table(OF_THE_PAPER),
        "quickstart score": tables_results.quickstart_score(),
        "results": tables_results.results_table(evidence.read(), records.read()),
    }


def methods_parts() -> dict[str, str]:
    """Return all generated parts of docs/methods.md by name."""
    return {
        "schemes": tables_methods.schemes_table(),
        "costs of schemes": tables_methods.scheme_costs_table(),
        "strategies": tables_methods.strategies_table(),
        "initializations": tables_methods.initializations_table(),
        "norms": tables_methods.norms_table(),
        "positions": tables_methods.positions_table(),
        "long sentences": included("benchmarks/results/long_sentences.md", "docs/methods.md"),
    }


def models_parts() -> dict[str, str]:
    """Return all generated parts of docs/models.md by name."""
    return {"flags": tables_methods.flags_table(), "small language model": included("docs/results/lm_mix.md")}


def runs_parts() -> dict[str, str]:
    """Return all generated parts of docs/runs.md by name."""
    return {
        "quickstart result": included(tables_results.QUICKSTART, "docs/runs.md"),
        "multi30k result": included(tables_results.MULTI30K, "docs/runs.md"),
        "batch sizes": tables_gpus.batch_sizes_table(),
        "early stopping": included("benchmarks/results/early_stopping.md", "docs/runs.md"),
        "subword sampling": included("benchmarks/results/subword_sampling.md", "docs/runs.md"),
        "sampling quality": included("benchmarks/results/sampling_quality.md", "docs/runs.md"),
        "mbr": included("benchmarks/results/mbr.md", "docs/runs.md"),
        "distilling": included("benchmarks/results/distilling.md", "docs/runs.md"),
    }


def checkpoints_parts() -> dict[str, str]:
    """Return all generated parts of docs/checkpoints.md by name."""
    return {"growing": included("benchmarks/results/growing.md", "docs/checkpoints.md")}


def architecture_parts() -> dict[str, str]:
    """Return all generated parts of docs/architecture.md by name."""
    return {"run folder": tables_architecture.run_folder_table()}


def changes_of_fairseq_parts() -> dict[str, str]:
    """Return all generated parts of docs/changes_of_fairseq.md by name."""
    return {"patches": tables_architecture.patches_tables()}


def reproduction_parts() -> dict[str, str]:
    """Return all generated parts of docs/reproduction.md by name."""
    return {
        "configurations": tables_reproduction.configurations_table(),
        "published": tables_reproduction.published_table(),
        "cost": tables_reproduction.cost_table(),
        "speed": tables_reproduction.speed_table(),
        "iwslt": tables_iwslt.configurations_table(),
        "small run": included("docs/results/mix.md"),
        "scale": included("benchmarks/results/prepare_at_scale.md"),
    }


def speed_parts() -> dict[str, str]:
    """Return all generated parts of docs/speed.md by name."""
    files = {"decoding of a trained model": "decoding_speed_trained"}
    names = ["training steps", "recompilations", "training memory", "shortlist", "batch filling"]
    names += ["precision quality quickstart", "precision quality multi30k"]
    files |= {name: name.replace(" ", "_") for name in names}
    files |= {name: f"cpu/avx512/{name.replace(' ', '_')}" for name in ("kept memory", "first result", "busy machine")}
    parts = {name: included(f"benchmarks/results/{file}.md") for name, file in files.items()}
    parts |= {f"{name} both kinds": tables_cpus.side_by_side(name) for name in tables_cpus.COMPARISONS}
    parts["training speed"] = as_called_today(tables_cpus.shared_training_table())
    return {**parts, "processors": tables_cpus.headlines_table(), "gpu": tables_gpus.measured()}


def results_parts() -> dict[str, str]:
    """Return all generated parts of docs/results.md by name."""
    numbers, done = evidence.read(), records.read()
    return {
        "verdicts": tables_claims.verdicts_table(numbers, done),
        "progress": tables_study.progress(done),
        "curves": tables_study.curves_table(done),
        "tuned": tables_study.tuned_table(done),
        "warmup": tables_study.warmup_table(done),
        "longer": tables_study.longer_table(done),
        "words": tables_study.words_table(done),
        "details": tables_claims.details_table(numbers, done),
        "one rate": tables_claims.one_rate_table(numbers),
        "rules": tables_claims.rules_table(),
        "conditions": tables_claims.conditions(numbers),
        "runs": tables_claims.runs_table(numbers),
        "comparisons": tables_claims.comparisons_table(numbers),
        "gradients": tables_claims.gradients_table(numbers),
        "sharing speed": included("claims/results/speed.md"),
        "hours": included("docs/results/shared_cpu.md"),
    }


FILES: dict[str, Callable[[], dict[str, str]]] = {
    "README.md": readme_parts,
    "docs/methods.md": methods_parts,
    "docs/models.md": models_parts,
    "docs/runs.md": runs_parts,
    "docs/checkpoints.md": checkpoints_parts,
    "docs/architecture.md": architecture_parts,
    "docs/changes_of_fairseq.md": changes_of_fairseq_parts,
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
        pattern = rf"(<!-- {part} -->\n)(?:.*?\n)??(<!-- end of {part} -->)"
        replacement = content.replace("\\", r"\\")
        text, count = re.subn(pattern, rf"\g<1>{replacement}\n\g<2>", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{name} has {count} parts <!-- {part} --> ... <!-- end of {part} -->, not one")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is out of date")
    args = parser.parse_args()
    # every model that is built logs a line
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
        sys.exit(f"out of date: {', '.join(outdated)}; run python -m docs.build.write_tables")


if __name__ == "__main__":
    main()

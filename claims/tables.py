#!/usr/bin/env python3
"""The tables of docs/results.md, from the numbers in claims/results.

python claims/tables.py --results DIR      print those of other runs
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from b2t_cli.analysis.summary import reaching_bottom  # noqa: E402
from claims import evidence  # noqa: E402
from claims.configurations import LABELS, TITLES  # noqa: E402
from claims.evidence import Evidence, mean_and_range, top_third  # noqa: E402
from claims.registry import CLAIMS  # noqa: E402


def verdicts_table(found: Evidence) -> str:
    """Return each claim with the numbers and the verdict that follows from them."""
    rows = []
    for claim in CLAIMS:
        verdict, reason = claim.judge(found)
        rows.append([claim.statement, claim.source, f"**{verdict}**", reason, f"`{claim.name}`"])
    return _table(["claim", "source", "verdict", "measured", "name"], rows, 5)


def rules_table() -> str:
    """Return what decides the claims that are not only of one model being better than another."""
    return _table(["name", "rule"], [[f"`{claim.name}`", claim.rule] for claim in CLAIMS if claim.rule], 2)


def runs_table(found: Evidence) -> str:
    """Return each configuration's result over its seeds."""
    rows = []
    for config, label in LABELS.items():
        runs = found.of(config)
        if not runs:
            rows.append([f"[{label}](../claims/configs/{config}.sh)", "", "not run", "", "", ""])
            continue
        rows.append(
            [
                f"[{label}](../claims/configs/{config}.sh)",
                f"{runs[0]['parameters']:,}",
                ", ".join(str(run["seed"]) for run in runs),
                mean_and_range(found.losses(config)),
                mean_and_range([run["bleu"] for run in runs], ".2f"),
                f"{sum(bool(run['diverged']) for run in runs)} of {len(runs)}",
            ]
        )
    return _table(["model", "parameters", "seeds run", "validation loss", "BLEU", "diverged"], rows, 1)


def comparisons_table(found: Evidence) -> str:
    """Return each pair that a claim compares, its translations with sacreBLEU's paired bootstrap."""
    rows = []
    for config, baseline in dict.fromkeys(pair for claim in CLAIMS for pair in claim.pairs):
        tests = found.bootstrap(config, baseline)
        if not tests:
            continue
        losses = statistics.mean(found.losses(config)) - statistics.mean(found.losses(baseline))
        values = ", ".join("identical" if one["p_value"] is None else f"{one['p_value']:.3f}" for one in tests)
        differences = ", ".join(f"{one['difference']:+.2f}" for one in tests)
        rows.append([LABELS[config], LABELS[baseline], f"{losses:+.3f}", differences, values])
    return _table(["model", "baseline", "validation loss", "BLEU, by seed", "p, by seed"], rows, 2)


def gradients_table(found: Evidence) -> str:
    """Return what is left of the gradient at the bottom of each stack, before and after training."""
    rows = []
    for trained in (False, True):
        for scheme, models in found.models(trained).items():
            width = models[0]["stacks"]["decoder"]["embed_dim"]
            updates = ", ".join(sorted({f"{model['updates']:,}" for model in models}))
            cells = [TITLES[scheme], str(width), updates, ", ".join(str(model["seed"]) for model in models)]
            for stack in ("encoder", "decoder"):
                cells.append(mean_and_range([reaching_bottom(model["stacks"][stack]) for model in models], ".3g"))
            for key in ("angle", "parameter_gradient"):
                cells.append(mean_and_range([top_third(model, key) for model in models], ".3g"))
            rows.append(cells)
    header = ["scheme, 18-18", "width", "updates", "seeds", "encoder, input to output", "decoder, input to output"]
    return _table([*header, "angle, decoder's top third", "parameters' gradient, decoder's top third"], rows, 1)


def conditions(found: Evidence) -> str:
    """Return on what the runs were made."""
    values = {
        key: ", ".join(sorted({run[key] for run in found.runs}))
        for key in ("hardware", "torch", "python", "commit", "date")
    }
    if not found.runs:
        return "No runs."
    minutes = [run["minutes"] for run in found.runs]
    return (
        f"{len(found.runs)} runs, each with {min(minutes):.0f} to {max(minutes):.0f} minutes of training on "
        f"{values['hardware']}; torch {values['torch']}, Python {values['python']}; commit {values['commit']}; "
        f"{values['date']}."
    )


def _table(header: list[str], rows: list[list[str]], left: int) -> str:
    alignment = ["---"] * left + ["--:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, alignment, *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=evidence.RESULTS, help="where the numbers are")
    found = evidence.read(parser.parse_args().results)
    tables = (conditions, runs_table, comparisons_table, gradients_table, verdicts_table)
    print("\n\n".join(table(found) for table in tables))


if __name__ == "__main__":
    main()

"""The tables of docs/results.md that are not only of the study, from the numbers in claims/results.

python -m claims.tables --results DIR      print the tables of other runs
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from b2t_cli.analysis.summary import reaching_bottom
from b2t_cli.tables import markdown_table
from b2t_common.names import STACKS
from claims.configurations import LABELS, TITLES
from claims.evidence import RESULTS, Evidence, mean_and_range, read, top_third
from claims.registry import CLAIMS
from claims.study import judging, records
from claims.study import registry as study
from claims.study import tables as tables_study
from claims.study.judging import NOT_RUN
from claims.study.records import Record
from claims.verdicts import FAILS, HOLDS, OPEN

ONE_RATE = {HOLDS: "so", FAILS: "not so", OPEN: "not decided"}
"""What the runs that share one learning rate have shown.  It is no verdict, as best rates differ."""


def verdicts(evidence: Evidence, done: Sequence[Record]) -> list[tuple[str, str, str, str]]:
    """Return statement, source, verdict and number of each claim that the study or a measurement decides."""
    studied = study.judge(done)
    measured = [(claim, claim.judge(evidence)) for claim in CLAIMS if not claim.configs]
    rows = [(claim.statement, claim.source, result.verdict, result.number or "-") for claim, result in measured]
    # what is decided comes first
    rows += sorted(
        ((claim.statement, claim.source, *studied[claim.name][:2]) for claim in study.CLAIMS),
        key=lambda row: row[2] == NOT_RUN,
    )
    return rows


def verdicts_table(evidence: Evidence, done: Sequence[Record]) -> str:
    """Return each claim with its verdict and the one number that it follows from."""
    rows = [
        [statement, source, f"**{verdict}**", number] for statement, source, verdict, number in verdicts(evidence, done)
    ]
    return markdown_table(["claim", "source", "verdict", "number"], rows, "llll")


def details_table(evidence: Evidence, done: Sequence[Record]) -> str:
    """Return all numbers behind the verdicts, by name of the claim or of what measures it."""
    studied = study.judge(done)
    rows = [
        [f"`{claim.name}`", studied[claim.name].details, tables_study.beside(done, claim.models)]
        for claim in study.CLAIMS
        if _is_begun(claim, studied[claim.name], done)
    ]
    rows += [[f"`{claim.name}`", claim.judge(evidence).reason, ""] for claim in CLAIMS if not claim.configs]
    return markdown_table(["claim", "numbers", "above the best, rates within 0.1 bit, clipped"], rows, "lll")


def _is_begun(claim: study.StudyClaim, judgement: judging.Judgement, done: Sequence[Record]) -> bool:
    """Whether a run is done whose numbers say something about a claim of the study."""
    if claim.words:
        return bool(judgement.details)
    return any(judging.curve(done, model).runs for model in claim.models)


def one_rate_table(evidence: Evidence) -> str:
    """Return what the runs that share one learning rate have shown of each claim."""
    rows = []
    for claim in CLAIMS:
        if claim.configs:
            judgement = claim.judge(evidence)
            rows.append(
                [claim.statement, claim.source, ONE_RATE[judgement.verdict], judgement.reason, f"`{claim.name}`"]
            )
    return markdown_table(["claim", "source", "at one rate", "measured", "name"], rows, "lllll")


def rules_table() -> str:
    """Return the rules of the claims that do not only say that one model is better than another."""
    return markdown_table(["name", "rule"], [[f"`{claim.name}`", claim.rule] for claim in CLAIMS if claim.rule], "ll")


def runs_table(evidence: Evidence) -> str:
    """Return the results of each configuration over its seeds."""
    rows = []
    for config, label in LABELS.items():
        link, runs = f"[{label}](../claims/configs/{config}.sh)", evidence.of(config)
        if not runs:
            rows.append([link, "", "not run", "", "", ""])
            continue
        seeds, diverged = ", ".join(str(run["seed"]) for run in runs), sum(bool(run["diverged"]) for run in runs)
        cells = [link, f"{runs[0]['parameters']:,}", seeds, mean_and_range(evidence.losses(config))]
        cells += [mean_and_range([run["bleu"] for run in runs], ".2f"), f"{diverged} of {len(runs)}"]
        rows.append(cells)
    return markdown_table(["model", "parameters", "seeds", "validation loss", "BLEU", "diverged"], rows, "lrrrrr")


def comparisons_table(evidence: Evidence) -> str:
    """Return the differences between the models of each pair that a claim compares."""
    rows = []
    for config, baseline in dict.fromkeys(pair for claim in CLAIMS for pair in claim.pairs):
        tests = evidence.bootstrap(config, baseline)
        if not tests:
            continue
        losses = statistics.mean(evidence.losses(config)) - statistics.mean(evidence.losses(baseline))
        values = ", ".join("identical" if test["p_value"] is None else f"{test['p_value']:.3f}" for test in tests)
        differences = ", ".join(f"{test['difference']:+.2f}" for test in tests)
        rows.append([LABELS[config], LABELS[baseline], f"{losses:+.3f}", differences, values])
    header = ["model", "baseline", "validation loss", "BLEU, seed by seed", "p, seed by seed"]
    return markdown_table(header, rows, "llrrr")


def gradients_table(evidence: Evidence) -> str:
    """Return which part of the gradient reaches the bottom of each stack, in new and in trained models."""
    rows = []
    for trained in (False, True):
        for scheme, models in evidence.models(trained).items():
            width = models[0]["stacks"]["decoder"]["embed_dim"]
            updates = ", ".join(sorted({f"{model['updates']:,}" for model in models}))
            cells = [TITLES[scheme], str(width), updates, ", ".join(str(model["seed"]) for model in models)]
            for stack in STACKS:
                cells.append(mean_and_range([reaching_bottom(model["stacks"][stack]) for model in models], ".3g"))
            for key in ("angle", "parameter_gradient"):
                cells.append(mean_and_range([top_third(model, key) for model in models], ".3g"))
            rows.append(cells)
    header = ["scheme, 18-18", "width", "updates", "seeds", "encoder, input to output", "decoder, input to output"]
    header += ["angle, decoder's top third", "gradient of parameters, decoder's top third"]
    return markdown_table(header, rows, "lrrrrrrr")


def conditions(evidence: Evidence) -> str:
    """Return the machine, the versions, the commits and the dates of the runs."""
    if not evidence.runs:
        return "No runs."
    keys = ("hardware", "torch", "python", "commit", "date")
    values = {key: ", ".join(sorted({run[key] for run in evidence.runs})) for key in keys}
    minutes = [run["minutes"] for run in evidence.runs]
    return (
        f"{len(evidence.runs)} runs, each with {min(minutes):.0f} to {max(minutes):.0f} minutes of training on "
        f"{values['hardware']}; torch {values['torch']}, Python {values['python']}; commit {values['commit']}; "
        f"{values['date']}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers are")
    results = parser.parse_args().results
    evidence = read(results)
    tables = (conditions, runs_table, comparisons_table, gradients_table, one_rate_table)
    print("\n\n".join([*(table(evidence) for table in tables), verdicts_table(evidence, records.read(results))]))


if __name__ == "__main__":
    main()

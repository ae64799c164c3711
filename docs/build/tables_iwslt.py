"""The generated table of docs/reproduction.md about IWSLT14: configurations and published results."""

from __future__ import annotations

import functools

from b2t_cli.scoring import published
from b2t_cli.scoring.layout import millions
from b2t_cli.scoring.matching import matching
from b2t_cli.tables import markdown_table, number

from .tables_reproduction import ROOT, Configuration, describe_model, link, read

FOLDER = "configs/iwslt14_de_en"
VOCABULARY = 10_000


@functools.cache
def configurations() -> list[Configuration]:
    """Return all configurations, sorted by depth and sharing."""
    all_files = [read(path, VOCABULARY) for path in (ROOT / FOLDER).glob("[!_]*.sh")]
    return sorted(all_files, key=lambda c: (c.settings.encoder_layers, -c.plan.stack("encoder").num_sets, c.name))


def configurations_table() -> str:
    """Return every configuration with the tokenized BLEU that a paper reports."""
    rows = []
    for c in configurations():
        known = matching(vars(c.settings), kinds=(published.IWSLT14,))
        score = number(known[0]["tokenized_bleu"] if known else None)
        rows.append([link(c), describe_model(c), millions(c.parameters), score])
    header = ["configuration", "model", "parameters", f"published {published.TOKENIZED}"]
    about = f"Parameters with a dictionary of {VOCABULARY:,} symbols. Published: {published.about(published.IWSLT14)}."
    return f"{markdown_table(header, rows, 'llrr')}\n\n{about}"

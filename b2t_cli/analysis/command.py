"""What ``b2t analyze`` does: measures models, one after the other, and writes numbers, table and figures."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from b2t_common.errors import InputError
from b2t_common.files import write_folder
from b2t_fairseq.hub import checkpoint_file

from .. import tables
from ..path import with_plugin
from . import figures, measuring, subjects, summary

NUMBERS = "analysis.json"


def analyze(args: Namespace, flags: list[str], command: str) -> None:
    """Analyze models, print the table and, unless ``args.text``, write the numbers and the figures.

    Args:
        args: what the command's own options say.
        flags: those of ``b2t train`` for fresh models, empty for none.
        command: the command line, for the file of numbers.

    Raises:
        InputError: a checkpoint, the data or the flags cannot be used.
    """
    schemes = subjects.schemes(args.residual) if flags else []
    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    models = []
    for subject in _subjects(args, flags, schemes):
        start = time.perf_counter()
        models.append(_measure(subject, args, device))
        print(f"{subject.name}: {time.perf_counter() - start:.0f} s", flush=True)
    if not args.text:
        _write(models, args, command)
    # models that cannot read long sentences have read fewer tokens than the others
    tokens = dict.fromkeys(f"{model['tokens']:,}" for model in models)
    table = summary.table(models, f"{' or '.join(tokens)} target tokens of {args.subset}")
    print(f"\n{table.text()}")
    if not args.text:
        print(f"\nwritten: {args.output / figures.OVERVIEW}.png, .svg, .json and a figure of each part")


def _subjects(args: Namespace, flags: list[str], schemes: Sequence[str | None]) -> Iterator[subjects.Subject]:
    """Yield the models of the checkpoints, then the fresh ones.

    With ``--residual all`` a scheme that does not fit the flags is left out; if none fits, the flags are wrong.
    """
    paths = list(map(checkpoint_file, args.checkpoints))
    for name, path in zip(tables.labels(args.checkpoints), paths, strict=True):
        # neither a table nor an SVG can hold every character that a folder's name may have
        printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
        yield subjects.trained(printable, path, args.data)
    refused = []
    for residual in schemes:
        try:
            yield subjects.fresh(args.data, with_plugin(flags), residual)
        except InputError as error:
            if args.residual != "all":
                raise
            refused.append(error)
    if refused and len(refused) == len(schemes):
        raise refused[0]
    for refusal in refused:
        print(f"left out: {refusal}")


def _measure(subject: subjects.Subject, args: Namespace, device: str) -> dict[str, Any]:
    subject.model.to(device)
    batches = list(subjects.batches(subject, args.subset, args.tokens, device))
    subjects.profile(subject, batches[0])
    return measuring.analyze(subject, batches)


def _write(models: Sequence[dict[str, Any]], args: Namespace, command: str) -> None:
    drawn = figures.draw(models)
    files = {f"{name}.{kind}": content for name, kinds in drawn.items() for kind, content in kinds.items()}
    result = {"command": command, "data": args.data, "subset": args.subset, "models": models}
    files[NUMBERS] = (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()
    write_folder(args.output, files, figures.FILES)

"""``b2t score``: BLEU, chrF and COMET of what ``fairseq-generate`` printed, for one file or for whole runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import (
    messages_beside,
    read_lines,
    refuse_overwriting,
    require_file,
    require_prefix,
    write_lines,
)
from b2t_common.names import flag

from .arguments import command_parser, require_positive
from .scoring.by_length import BOUNDS, build_table, parse_bounds, score_by_length
from .scoring.newstest import PAPERS_PAIR

DEFAULT_SAMPLES = 1000


def main(argv: list[str]) -> None:
    """Put translations back into the order of the text, check that none is missing, and score them.

    With --reference, one output of fairseq-generate is scored.  Without it, runs are scored on the test sets of their
    data, if scripts/evaluate.sh has put these into RUN/evaluation/references, otherwise on newstest2010 to
    newstest2016: RUN/evaluation/newstest2010.generated.txt and so on are read, and RUN/evaluation/averaged.pt.  The
    scores of each run are written, beside those of the papers, to RUN/evaluation/scores.json, .md and .tex.  If there
    are several runs, each is compared with the first by paired bootstrap resampling.  With --by-length the scores of
    sentences in groups of similar length are printed too.
    """
    parser = command_parser(
        "score",
        main,
        usage="b2t score GENERATED --reference REFERENCE [--source SOURCE --by-length [N,N,...]] "
        "[--output HYPOTHESES]\n"
        "       b2t score RUN [RUN ...] [--comet [MODEL]] [--language-pair en-de] [--by-length [N,N,...]] "
        "[--bootstrap-samples N] "
        "[--output PREFIX]",
    )
    parser.add_argument("inputs", nargs="+", type=Path, help="output of fairseq-generate, or folders of runs")
    parser.add_argument("--reference", type=Path, help="reference text, detokenized")
    parser.add_argument("--source", type=Path, help="with --by-length: source text, detokenized")
    parser.add_argument(
        "--by-length",
        nargs="?",
        const="",
        metavar="N,N,...",
        help="also the scores of sentences whose source has up to N words, with --reference or of all test sets "
        f"together (default: {','.join(map(str, BOUNDS))})",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="with --reference: file for the translations, one a line; of several runs: where to write the comparison, "
        "without .json (default: evaluation/comparison in the first run)",
    )
    parser.add_argument(
        "--comet",
        nargs="?",
        const="",
        metavar="MODEL",
        help="COMET too, after scripts/setup.sh --comet; MODEL is a name at Hugging Face or the folder of a model",
    )
    parser.add_argument("--language-pair", metavar="PAIR", help=f"default: {PAPERS_PAIR}")
    parser.add_argument(
        "--bootstrap-samples", type=int, metavar="N", help=f"of the comparison of runs (default: {DEFAULT_SAMPLES})"
    )
    args = parser.parse_args(argv)
    _refuse_contradictions(args)
    if args.reference:
        _score_file(args)
    else:
        _score_runs(args)


def _refuse_contradictions(args: argparse.Namespace) -> None:
    if args.reference:
        if len(args.inputs) > 1:
            raise InputError(
                f"--reference {args.reference} is for one output of fairseq-generate, not {len(args.inputs)}"
            )
        for name in ("comet", "language_pair", "bootstrap_samples"):
            if getattr(args, name) is not None:
                raise InputError(f"{flag(name)} is for runs and has no effect with --reference; drop one")
        if (args.source is None) != (args.by_length is None):
            given, missing = ("--source", "--by-length") if args.source else ("--by-length", "--source")
            raise InputError(f"{given} needs {missing} here: sentences are grouped by the length of their source")
        return
    if args.source is not None:
        raise InputError(f"--source {args.source} is for one output of fairseq-generate; give its --reference too")
    for run in args.inputs:
        if not run.is_dir():
            raise InputError(
                f"{run} is not the folder of a run; to score an output of fairseq-generate give its --reference"
            )
    if args.comet and (Path(args.comet) / run_folder.EVALUATION).is_dir():
        raise InputError(f"--comet {args.comet} is a run, not a model; put --comet after the runs")
    if len({run.resolve() for run in args.inputs}) < len(args.inputs):
        raise InputError(f"a run is given twice: {', '.join(map(str, args.inputs))}")
    for name in ("output", "bootstrap_samples"):
        if len(args.inputs) == 1 and getattr(args, name) is not None:
            raise InputError(
                f"{flag(name)} {getattr(args, name)} is for the comparison of runs, and there is only "
                f"{args.inputs[0]}, whose scores go to its evaluation folder; drop it or give two runs"
            )
    require_positive("--bootstrap-samples", args.bootstrap_samples)
    if args.output:
        require_prefix(args.output)


def _score_file(args: argparse.Namespace) -> None:
    from .scoring.generated import read_generated

    if args.output:
        require_file(args.output)
    refuse_overwriting(args.output, [args.inputs[0], args.reference, args.source])
    references = read_lines(args.reference)
    bounds = None if args.by_length is None else parse_bounds(args.by_length)
    sources = read_lines(args.source) if args.source else []
    if sources and len(sources) != len(references):
        raise InputError(
            f"--source {args.source} has {len(sources)} lines and --reference {args.reference} has {len(references)}; "
            "give the two sides of one test set"
        )
    hypotheses = read_generated(args.inputs[0], references)
    if args.output:
        write_lines(args.output, hypotheses)
    lines = _scores(hypotheses, references)
    if bounds:
        lines += ["", build_table(score_by_length(hypotheses, references, sources, bounds)).text()]
    print("\n".join(lines), file=messages_beside(args.output))


def _scores(hypotheses: list[str], references: list[str]) -> list[str]:
    """Return one line per metric, BLEU and chrF, each with its sacreBLEU signature."""
    from sacrebleu.metrics import BLEU, CHRF

    lines = []
    for metric in (BLEU(), CHRF()):
        result = metric.corpus_score(hypotheses, [references])
        lines.append(f"{result.name}|{metric.get_signature()} = {result.format(score_only=True, width=2)}")
    return lines


def _score_runs(args: argparse.Namespace) -> None:
    from .scoring.side_by_side import score_runs

    samples = args.bootstrap_samples or DEFAULT_SAMPLES
    bounds = () if args.by_length is None else parse_bounds(args.by_length)
    tables = score_runs(args.inputs, args.language_pair, args.comet, samples, args.output, bounds)
    print("\n\n".join(table.text() for table in tables))

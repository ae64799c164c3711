"""``b2t mbr``: minimum-Bayes-risk decoding of the candidates that ``b2t generate --nbest`` printed."""

from __future__ import annotations

import argparse
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import refuse_overwriting, require_file

from .arguments import command_parser, require_positive

UTILITIES = ("chrf", "bleu", "comet")


def main(argv: list[str]) -> None:
    """Choose, of the candidates of each sentence, the one with the highest expected utility (Kumar and Byrne 2004).

    The expected utility of a candidate is the mean, over all candidates of the sentence, of its score with that one as
    the reference (Eikema and Aziz 2020).  A translation that was drawn twice counts twice as a reference.  Candidates
    are samples (b2t generate --sampling --beam 16 --nbest 16) or the best of a beam (--beam 16 --nbest 16); several
    outputs for one test set are taken together.
    """
    parser = command_parser("mbr", main, allow_abbrev=False)
    parser.add_argument("generated", nargs="+", type=Path, help="outputs of b2t generate --nbest for one test set")
    parser.add_argument("--utility", choices=UTILITIES, default=UTILITIES[0], help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file for the choice, one a line")
    parser.add_argument("--source", type=Path, metavar="TEXT", help="the source text; --utility comet needs it")
    parser.add_argument(
        "--reference", type=Path, metavar="TEXT", help="also score the choice, and the first candidates beside it"
    )
    parser.add_argument(
        "--comet-model", metavar="MODEL", help="model of --utility comet: a name or the folder of a downloaded one"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    args = parser.parse_args(argv)
    _check(args)
    from .mbr_decoding import command

    command.run(args)


def _check(args: argparse.Namespace) -> None:
    require_positive("--workers", args.workers)
    require_file(args.output)
    refuse_overwriting(args.output, [*args.generated, args.source, args.reference])
    if args.utility != "comet" and args.comet_model is not None:
        raise InputError(f"--comet-model {args.comet_model} has no effect with --utility {args.utility}; drop one")
    if args.utility == "comet":
        from .scoring import comet

        comet.require()
        if args.source is None:
            raise InputError("--utility comet compares translations with their source: give --source TEXT")
        if args.workers is not None:
            raise InputError(f"--workers {args.workers} has no effect with --utility comet; drop it")
    if len({path.resolve() for path in args.generated}) < len(args.generated):
        raise InputError(f"an output is given twice: {', '.join(map(str, args.generated))}")

"""``b2t shortlist``: which target symbols each source symbol may become, learned from the training data."""

from __future__ import annotations

from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import messages_beside, require_file

from .arguments import command_parser, require_positive


def main(argv: list[str]) -> None:
    """Write the file that b2t generate --shortlist reads.

    It has the most frequent target symbols, and for each source symbol its most probable translations. Their
    probabilities are learned by the IBM Model 1 from binarized sentence pairs. The output layer then computes these
    symbols only.
    """
    parser = command_parser("shortlist", main)
    parser.add_argument("data", metavar="DATA", type=Path, help="binarized data that fairseq-preprocess wrote")
    parser.add_argument("-s", "--source-lang", metavar="LANG", help="source language (default: as the files say)")
    parser.add_argument("-t", "--target-lang", metavar="LANG", help="target language (default: as the files say)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--subset", default="train", metavar="NAME", help="sentence pairs to learn from; default: train"
    )
    parser.add_argument(
        "--best", type=int, default=100, metavar="N", help="symbols for each source symbol (default: 100)"
    )
    parser.add_argument(
        "--frequent",
        type=int,
        default=100,
        metavar="N",
        help="symbols that are allowed for every source, the most frequent ones (default: 100)",
    )
    parser.add_argument("--iterations", type=int, default=3, metavar="N", help="of learning (default: 3)")
    args = parser.parse_args(argv)
    for name in ("best", "frequent", "iterations"):
        require_positive(f"--{name}", getattr(args, name))
    if (args.source_lang is None) != (args.target_lang is None):
        raise InputError("--source-lang and --target-lang belong together: give both or none of them")
    if not args.data.is_dir():
        raise InputError(f"{args.data}: there is no such folder of binarized data")
    require_file(args.output)
    from .shortlists import command

    languages = args.source_lang, args.target_lang
    report = command.write(args.data, languages, args.subset, args.output, args.best, args.frequent, args.iterations)
    print("\n".join(report), file=messages_beside(args.output))

"""``b2t translate``: a translation for every line of a text, made in parts that several processes may share."""

from __future__ import annotations

import argparse
from pathlib import Path

from b2t_common.errors import InputError
from b2t_common.files import is_stream, require_file
from b2t_common.names import flag

from .arguments import command_parser, require_positive

LINES_PER_PART = 500
MAX_PIECES = 256
DEFAULT_SEED = 1
SEARCH = ("beam", "lenpen", "max_len_a", "max_len_b", "sampling", "sampling_topk", "sampling_topp", "temperature")
"""The settings of the search, by their names in fairseq."""


def main(argv: list[str]) -> None:
    """Translate plain text line by line with a run, whose SentencePiece model splits it into pieces.

    Every line gets one line, in order.  An empty line stays empty.  A line that is longer than --max-pieces is cut, at
    the end of a sentence where possible; the translations of its pieces stand on its line.  FILE is written when all
    lines are translated.  Until then finished parts lie in FILE.parts, where the same command continues after a kill,
    and where several processes share the work; scripts/translate_corpus.sh starts one for each core or GPU.
    """
    parser = command_parser("translate", main, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="the folder of a run, or a checkpoint")
    parser.add_argument("text", type=Path, help="file with one sentence in each line")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file for the translations")
    parser.add_argument("--tag", metavar="TAG", help="put TAG and a space before each translation that is not empty")
    _add_model(parser.add_argument_group("the model"))
    _add_search(parser.add_argument_group("the search"))
    work = parser.add_argument_group("the work")
    work.add_argument(
        "--max-tokens", type=int, default=4000, metavar="N", help="source tokens of a batch (default: %(default)s)"
    )
    work.add_argument("--lines-per-part", type=int, metavar="N", help=f"lines of each part (default: {LINES_PER_PART})")
    work.add_argument(
        "--parts-only",
        action="store_true",
        help="translate parts that no other process translates, and do not write FILE",
    )
    work.add_argument("--dry-run", action="store_true", help="check text, model and flags, and write nothing")
    args = parser.parse_args(argv)
    _check(args)
    args.seed = DEFAULT_SEED if args.seed is None else args.seed
    from .translating import command

    command.run(args)


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", type=Path, metavar="DIR", help="folder of the dictionaries (default: the run's data)")
    group.add_argument("-s", "--source-lang", metavar="LANG", help="if neither checkpoint nor data say it")
    group.add_argument("-t", "--target-lang", metavar="LANG", help="likewise")
    group.add_argument(
        "--pieces",
        action="store_true",
        help="the text is in pieces as fairseq-preprocess gets it, and so will be the translations",
    )
    group.add_argument(
        "--max-pieces",
        type=int,
        default=MAX_PIECES,
        metavar="N",
        help="translate a line of more pieces in several parts (default: %(default)s)",
    )
    group.add_argument("--shortlist", metavar="FILE", help="translate with the symbols of this file of b2t shortlist")
    group.add_argument("--cpu", action="store_true", help="do not use a GPU")
    precision = group.add_mutually_exclusive_group()
    precision.add_argument("--bf16", action="store_true", help="weights in bfloat16, on a GPU or a CPU that has it")
    precision.add_argument("--fp16", action="store_true", help="16-bit weights, on a GPU")
    precision.add_argument("--int8", action="store_true", help="8-bit weights, on a CPU")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--beam", type=int, default=5, metavar="N", help="default: %(default)s")
    group.add_argument("--lenpen", type=float, default=1.0, metavar="X", help="length penalty (default: %(default)s)")
    group.add_argument(
        "--max-len-a", type=float, default=2.0, metavar="A", help="translations have at most A x source + B pieces"
    )
    group.add_argument("--max-len-b", type=int, default=50, metavar="B", help="default: %(default)s, A: 2.0")
    group.add_argument("--sampling", action="store_true", help="draw a translation from the model, with --beam 1")
    group.add_argument("--sampling-topk", type=int, default=-1, metavar="K", help="only from the K best pieces")
    group.add_argument("--sampling-topp", type=float, default=-1.0, metavar="P", help="only from the best P of mass")
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="default: %(default)s")
    group.add_argument("--seed", type=int, metavar="N", help=f"for --sampling (default: {DEFAULT_SEED})")


def _check(args: argparse.Namespace) -> None:
    for name in ("beam", "max_tokens", "lines_per_part", "max_pieces"):
        require_positive(flag(name), getattr(args, name))
    if args.seed is not None and not args.sampling:
        raise InputError(f"--seed {args.seed} has no effect without --sampling; drop it, or add --sampling --beam 1")
    if args.sampling and args.beam != 1:
        raise InputError(f"--sampling draws one translation of each line: give --beam 1 in place of {args.beam}")
    if not args.text.is_file():
        raise InputError(f"{args.text}: no such text; a pipe cannot be divided into parts, so give a file")
    if is_stream(args.output):
        raise InputError(f"--output {args.output} is no file; parts are kept beside it, so give the name of a file")
    require_file(args.output)
    if args.output.exists():
        raise InputError(f"--output {args.output} exists already; delete it to translate again")
    if args.tag is not None and (not args.tag.strip() or args.tag != "".join(args.tag.split())):
        raise InputError(f"--tag {args.tag!r}: give one word, such as <BT>")

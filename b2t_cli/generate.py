"""``b2t generate``: ``fairseq-generate`` for several subsets in one process."""

from __future__ import annotations

from .arguments import command_parser


def main(argv: list[str]) -> None:
    """Translate with the flags of fairseq-generate; fairseq-generate --help lists them.

    --user-dir is this plugin unless another is given.  --gen-subset may name several subsets (test,test1).  With
    --results-path DIR the output for each subset is DIR/generate-SUBSET.txt, which is complete or absent.
    """
    parser = command_parser(
        "generate",
        main,
        usage="b2t generate DATA --path CHECKPOINT [--gen-subset SUBSET,...] [--results-path DIR] "
        "[--int8 | --bf16] [--shortlist FILE] [--subset-lenpen SUBSET=LENPEN ...] [flags of fairseq-generate]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="on a CPU: translate with 8-bit weights, in less time and memory, with slightly different scores",
    )
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="translate with weights in bfloat16, on a GPU or on a CPU with instructions for it, in less time and "
        "memory, with slightly different scores",
    )
    parser.add_argument(
        "--shortlist",
        metavar="FILE",
        help="a file of b2t shortlist: translate with the target symbols that it has for the sentence, in less time; "
        "some translations change",
    )
    parser.add_argument(
        "--subset-lenpen",
        action="append",
        default=[],
        metavar="SUBSET=LENPEN",
        help="another length penalty (--lenpen) for one of the subsets; may be given several times",
    )
    args, fairseq_flags = parser.parse_known_args(argv)
    from .fairseq_commands import generate

    settings = {name: getattr(args, name) for name in ("int8", "bf16", "shortlist")}
    generate.run(fairseq_flags, args.subset_lenpen, settings)

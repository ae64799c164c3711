"""``b2t train``: ``fairseq-train`` with the same flags, fixed where it fails today."""

from __future__ import annotations

import argparse

from b2t_common.errors import InputError

_DESCRIPTION = """\
All flags of fairseq-train (fairseq-train --help), with this plugin as --user-dir unless another is given.

What b2t train adds to fairseq-train:
  * --bf16 trains on a GPU or a CPU; fairseq-train would look for a TPU.
  * A --save-dir that holds another run, or in which a run is at work, is refused before anything is written.
  * What cannot work is said before the first update: files that are missing, a metric that validation does not compute,
    sentences that are too long for it, flags that contradict each other. Flags without effect are named.
  * SIGUSR1 and SIGTERM end the run after the current update, with a checkpoint. The exit status is then 75, and the
    same command continues the run. --restore-file, --finetune-from-model and --reset-... say how a run begins, so
    they have their effect once.
  * A run may continue with another number of processes: the same sentences of the epoch are left.
  * A run that has ended by itself is left as it is: by --max-update, --max-epoch, --patience or --stop-min-lr.
    --stop-time-hours is the time of one call, and the same command continues for as long again.
  * Freed memory is kept instead of returned to the system after each tensor (B2T_KEEP_MEMORY=0 switches this off).
  * A start that would train nothing is an error: fairseq-train would start no process and report success.
"""
_EPILOG = """\
b2t train --arch ARCH --help lists the flags of this plugin and of that model, for instance with
--arch b2t_transformer, b2t_transformer_lm or b2t_s2t_transformer.
"""


def main(argv: list[str]) -> int:
    """Train with ``fairseq-train``'s own flags.

    Returns:
        0; 75 if a signal ended the run and the same command continues it; 1 if nothing was saved then (--no-save).

    Raises:
        InputError: ``--arch`` is missing; see also :func:`b2t_cli.fairseq_commands.train.run`.
    """
    parser = argparse.ArgumentParser(
        prog="b2t train",
        usage="b2t train DATA --arch ARCH [flags]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--arch", "-a", metavar="ARCH", help="the model, for instance b2t_transformer")
    parser.add_argument("--help", "-h", action="store_true", help="show this text")
    args, _ = parser.parse_known_args(argv)
    if args.help and args.arch is None:
        parser.print_help()
        return 0
    if args.arch is None:
        raise InputError("--arch is missing; for instance --arch b2t_transformer")
    from .fairseq_commands import train

    if args.help:
        train.print_model_flags(args.arch)
        return 0
    return train.run(argv)

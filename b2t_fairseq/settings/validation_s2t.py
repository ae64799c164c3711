"""Refuses a speech-to-text model's settings that contradict each other or that fairseq would ignore or fail on."""

from __future__ import annotations

from argparse import Namespace

from b2t_common.errors import InputError
from b2t_common.names import flag

from .validation import shown

# what each kind of convolutions below the encoder's layers leaves unread, with fairseq's defaults
_UNREAD: dict[str, dict[str, object]] = {
    "s2t_transformer": {"conv_out_channels": 256},
    "convtransformer": {"conv_kernel_sizes": "5,5", "conv_channels": 1024},
}


def validate_speech(args: Namespace) -> None:
    """Check what only speech models have: the convolutions below the encoder.

    Args:
        args: the settings.

    Raises:
        InputError: on the first contradiction; the message quotes the offending values and says what to do.
    """
    if args.encoder_word_dropout:
        raise InputError(
            f"--encoder-word-dropout {args.encoder_word_dropout}: speech has no words to drop; drop the flag"
        )
    for name, default in _UNREAD[args.conv_version].items():
        if getattr(args, name) != default:
            raise InputError(
                f"{shown(args, name)} has no effect with --conv-version {args.conv_version}; drop {flag(name)}"
            )
    kernels = [kernel.strip() for kernel in args.conv_kernel_sizes.split(",")]
    if not all(kernel.isdecimal() and int(kernel) % 2 for kernel in kernels):
        raise InputError(
            f"--conv-kernel-sizes {args.conv_kernel_sizes}: give odd numbers, as in 5,5; fairseq computes the lengths "
            "of the utterances for odd kernels only"
        )
    if args.conv_channels < 2 or args.conv_channels % 2:
        raise InputError(f"--conv-channels {args.conv_channels}: gated linear units need an even number")

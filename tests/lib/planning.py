"""What scripts/train.sh would do on a given machine, without doing it."""

import shlex

from commands import BIN, script, stand_in
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from helpers import ROOT

WMT = "configs/wmt14_en_de"


def machine(folder, gpus, bf16=True, memory=0, can_compile=False):
    """Return a PATH on which Python answers scripts/train.sh that it sees ``gpus`` GPUs, with ``memory`` MiB each."""
    seen = f"echo {gpus} {bf16} 23456 {memory} {can_compile}; exit"
    answer = f'case "$*" in *visible_gpus.py*) {seen};; *tensorboard*) exit 0;; esac\n'
    return stand_in(folder / "machine", "python", f'{answer}exec "{BIN}/python" "$@"\n')


def planned(config, *arguments, gpus=8, bf16=True, memory=0, can_compile=False, folder, check=True, **variables):
    """Return what ``train.sh --dry-run`` prints, and the flags of ``b2t train`` in it, None if there is no command."""
    path = machine(folder, gpus, bf16, memory, can_compile)
    result = script(
        "train.sh", ROOT / config, "--data", "/data", *arguments, "--dry-run", check=check, PATH=path, **variables
    )
    command = [line for line in result.stdout.splitlines() if line.startswith("b2t train")]
    return result.stdout, shlex.split(command[0])[2:] if command else None


def settings(flags):
    """Return fairseq's configuration for the flags, as ``b2t train`` parses them."""
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, [*flags, "--user-dir", str(ROOT / "b2t_fairseq")])
    args.tpu = False  # fairseq sets it with --bf16
    return convert_namespace_to_omegaconf(args)

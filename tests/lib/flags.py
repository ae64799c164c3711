"""Command-line flags as fairseq's own parser reads them."""

from argparse import Namespace

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf


def model_flags(arch: str, *flags: str) -> set[str]:
    """Return the flags that an architecture's model adds to fairseq's parser; ``flags`` choose another task."""
    parser = options.get_training_parser()
    options.parse_args_and_arch(parser, ["data", *flags, "--arch", arch])
    group = next(g for g in parser._action_groups if g.title == "Model-specific configuration")
    return {option for action in group._group_actions for option in action.option_strings}


def parse_arguments(*flags: str) -> Namespace:
    """Return fairseq's settings of a training command, with those of its architecture filled in."""
    return options.parse_args_and_arch(options.get_training_parser(), ["data", *flags])


def parse(*flags: str):
    """Return the settings of the model of a training command, of a translation task unless told otherwise."""
    return convert_namespace_to_omegaconf(parse_arguments("--task", "translation", *flags)).model

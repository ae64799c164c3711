"""Command-line flags as fairseq's own parser reads them."""

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf


def stock_flags(arch: str) -> set[str]:
    parser = options.get_training_parser()
    options.parse_args_and_arch(parser, ["data", "--arch", arch])
    group = next(g for g in parser._action_groups if g.title == "Model-specific configuration")
    return {option for action in group._group_actions for option in action.option_strings}


def parse(*flags: str):
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, ["data", "--task", "translation", *flags])
    return convert_namespace_to_omegaconf(args).model

"""The flags of this plugin.  Each field below is a flag of ``fairseq-train`` and a key of a YAML file."""

import argparse
import dataclasses
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from omegaconf import DictConfig, OmegaConf

from b2t_common.names import flag

from .. import initialization
from ..kernels import FAST, KERNELS
from ..normalization import DEFAULT as DEFAULT_NORM
from ..normalization import NORMS
from ..positions import POSITIONS
from ..residual import DEFAULT, SCHEMES
from ..sharing import ALL_SUBLAYERS, NO_SHARING, SHARE_SUBLAYERS, STRATEGIES
from .stock import REDECLARED_IN_LANGUAGE_MODELS, StockTransformerConfig, fill_derived, stock_fields


@dataclass
class B2TTransformerConfig(StockTransformerConfig):
    """Every field is a flag of ``--arch b2t_transformer`` and a key of ``model:`` in a YAML file."""

    residual: ChoiceEnum(list(SCHEMES)) = field(
        default=DEFAULT, metadata={"help": "residual scheme: how each sub-layer is wrapped"}
    )
    norm: ChoiceEnum(list(NORMS)) = field(
        default=DEFAULT_NORM, metadata={"help": "the norms of layers, stacks and residual schemes"}
    )
    rms_norm_bias: bool = field(
        default=False,
        metadata={"help": "add a trainable vector to each RMSNorm, as b2t convert --to pre_rms_norm does"},
    )
    center_embedding: bool = field(
        default=False,
        metadata={"help": "subtract the mean from what the first layer reads, as b2t convert --to pre_rms_norm does"},
    )
    power_norm_warmup: int = field(
        default=4000, metadata={"help": "number of updates in which PowerNorm uses the statistics of its batch alone"}
    )
    positions: Optional[ChoiceEnum(list(POSITIONS))] = field(
        default=None,
        metadata={"help": "positions of encoder and decoder (default: sinusoidal, or what fairseq's flags say)"},
    )
    shape_offsets: int = field(
        default=500, metadata={"help": "number K of SHAPE: positions are shifted by 0 to K - 1 in training"}
    )
    layer_sharing: str = field(
        default=NO_SHARING,
        metadata={
            "help": f"which layers share parameters: {', '.join(STRATEGIES)}, or the parameter set of each layer, as "
            "in 0,1,1,0; ENCODER/DECODER gives each stack its own, as in 0,1,1,0/none"
        },
    )
    encoder_unique_layers: Optional[int] = field(
        default=None, metadata={"help": "number of encoder parameter sets M, a divisor of --encoder-layers"}
    )
    decoder_unique_layers: Optional[int] = field(
        default=None, metadata={"help": "number of decoder parameter sets M, a divisor of --decoder-layers"}
    )
    share_sublayers: ChoiceEnum(list(SHARE_SUBLAYERS)) = field(
        default=ALL_SUBLAYERS, metadata={"help": "which sub-layers are shared"}
    )
    share_norms: bool = field(default=True, metadata={"help": "whether the norms of these sub-layers are shared too"})
    share_encoder_decoder: bool = field(
        default=False,
        metadata={"help": "share each layer of the encoder with that of the decoder; cross-attention stays apart"},
    )
    encoder_word_dropout: float = field(
        default=0.0, metadata={"help": "probability of dropping a source token's embedding in training"}
    )
    decoder_word_dropout: float = field(
        default=0.0, metadata={"help": "probability of dropping a target token's embedding in training"}
    )
    kernels: ChoiceEnum(list(KERNELS)) = field(
        default=FAST,
        metadata={
            "help": "fast: the least time, with fairseq's numbers within rounding; fairseq: its operations bit by bit"
        },
    )
    compile: bool = field(
        default=False,
        metadata={"help": "compile the layers with torch.compile for training; the first updates take minutes then"},
    )
    init: ChoiceEnum(list(initialization.INITIALIZATIONS)) = field(
        default=initialization.DEFAULT, metadata={"help": "initialization of the weights of all layers"}
    )
    depth_scaled_init: bool = field(
        default=False,
        metadata={
            "help": "multiply the initial weights of the N layers of a stack by N**-0.5: the older name of "
            f"--init {initialization.DEPTH_SCALED}"
        },
    )
    admin_profile: Optional[str] = field(
        default=None,
        metadata={"help": "file of Admin's omegas, read before the first update, or written if it does not exist"},
    )
    branch_norm_updates: Optional[int] = field(
        default=None,
        metadata={"help": "updates T in which BranchNorm's weight of sub-layers grows from 0 to 1 (default: 4000)"},
    )


def own_fields() -> list[tuple[str, Any, Any]]:
    """Return the fields that this plugin adds to fairseq's transformer."""
    stock = {stock.name for stock in dataclasses.fields(StockTransformerConfig)}
    return [
        (own.name, own.type, field(default=own.default, metadata=dict(own.metadata)))
        for own in dataclasses.fields(B2TTransformerConfig)
        if own.name not in stock
    ]


B2TLanguageModelConfig = make_dataclass(
    "B2TLanguageModelConfig",
    stock_fields(TransformerLanguageModelConfig, REDECLARED_IN_LANGUAGE_MODELS)
    + [own for own in own_fields() if not own[0].startswith("encoder_") and own[0] != "share_encoder_decoder"],
    bases=(FairseqDataclass,),
)
B2TLanguageModelConfig.__doc__ = "Every field is a flag of ``--arch b2t_transformer_lm`` and a key in a YAML file."
B2TLanguageModelConfig.__module__ = __name__

B2TSpeechConfig = make_dataclass(
    "B2TSpeechConfig",
    [own for own in own_fields() if own[0] != "encoder_word_dropout"],
    bases=(FairseqDataclass,),
)
B2TSpeechConfig.__doc__ = "The flags that ``--arch b2t_s2t_transformer`` adds to fairseq's; its encoder reads no words."
B2TSpeechConfig.__module__ = __name__


def add_flags(parser: Any, config_class: type) -> None:
    """Add the flags of a model to fairseq's parser; defaults are left to the architecture.

    Args:
        parser: a parser, or a group of its flags.
        config_class: the dataclass with the model's settings.
    """
    for setting in dataclasses.fields(config_class):
        if setting.type is bool and setting.default is True:
            # fairseq would let --share-norms, without "no", switch the setting off
            parser.add_argument(
                flag(setting.name),
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=setting.metadata["help"],
            )
    gen_parser_from_dataclass(parser, config_class(), delete_default=True)


def as_namespace(
    cfg: DictConfig | argparse.Namespace | FairseqDataclass, config_class: type = B2TTransformerConfig
) -> argparse.Namespace:
    """Return a copy of a model's settings with every field set and the dimensions that depend on others filled in.

    What fairseq would take from the settings of the task is ``None`` if ``cfg`` is not part of a whole configuration.
    """
    if isinstance(cfg, DictConfig):
        given: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    else:
        given = {name: value for name, value in vars(cfg).items() if value is not dataclasses.MISSING}
    defaults = {f.name: f.default for f in dataclasses.fields(config_class) if f.name != "_name"}
    settings = {**defaults, **given}
    for name, value in settings.items():
        if isinstance(value, str) and value.startswith("${"):
            settings[name] = None
    fill_derived(settings)
    return argparse.Namespace(**settings)

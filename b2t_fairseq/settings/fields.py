"""The flags of the models: all of fairseq's and this plugin's own, in one flat dataclass for each model.

fairseq's ``TransformerConfig`` is nested, and nested fields are not filled on the ``--arch`` route.  Flattened
(``encoder_embed_dim`` instead of ``encoder.embed_dim``) one class serves ``fairseq-train --arch`` and
``fairseq-hydra-train`` alike, under the names that fairseq's own command line uses.
"""

import argparse
import dataclasses
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from omegaconf import DictConfig, OmegaConf

from ..layers import FAST, KERNELS
from ..residual import B2T, SCHEMES
from ..sharing import STRATEGIES, none

Redeclared = dict[str, "tuple[Any, str] | None"]

# fairseq declares or uses these in a way that does not survive flattening
_REDECLARED: Redeclared = {
    # fairseq splits the value at commas, though it declares a list of integers
    "encoder_layers_to_keep": (Optional[str], "which encoder layers to keep when pruning, as in 0,2,4"),
    "decoder_layers_to_keep": (Optional[str], "which decoder layers to keep when pruning, as in 0,2,4"),
    "decoder_embed_dim": (Optional[int], "decoder embedding dimension (default: --encoder-embed-dim)"),
    "decoder_ffn_embed_dim": (
        Optional[int],
        "decoder embedding dimension for FFN (default: --encoder-ffn-embed-dim)",
    ),
    "decoder_output_dim": (
        Optional[int],
        "decoder output dimension, with an extra linear layer if it differs (default: --decoder-embed-dim)",
    ),
    # no flag of fairseq's transformer either
    "decoder_input_dim": None,
}

# fairseq's 512 would not follow --decoder-embed-dim in a YAML file, as it does on the command line
_REDECLARED_IN_LANGUAGE_MODELS: Redeclared = {
    name: (
        Optional[int],
        f"decoder {side} dimension, with an extra linear layer if it differs (default: --decoder-embed-dim)",
    )
    for name, side in (("decoder_input_dim", "input"), ("decoder_output_dim", "output"))
}


def _stock_fields(config_class: type, redeclared: Redeclared, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return fairseq's fields as (flat name, type, field)."""
    flat = []
    for stock in dataclasses.fields(config_class):
        name = prefix + stock.name
        if stock.name == "_name":
            continue
        if isinstance(stock.type, type) and issubclass(stock.type, FairseqDataclass):
            flat += _stock_fields(stock.type, redeclared, f"{name}_")
        elif name not in redeclared:
            metadata = dict(stock.metadata)
            if prefix and metadata.get("help"):
                metadata["help"] = f"{prefix[:-1]}: {metadata['help']}"
            flat.append((name, stock.type, field(default=stock.default, metadata=metadata)))
        elif redeclared[name] is not None:
            redeclared_type, help_text = redeclared[name]
            flat.append((name, redeclared_type, field(default=None, metadata={"help": help_text})))
    return flat


StockTransformerConfig = make_dataclass(
    "StockTransformerConfig", _stock_fields(TransformerConfig, _REDECLARED), bases=(FairseqDataclass,)
)
StockTransformerConfig.__doc__ = "The fields of fairseq's ``TransformerConfig`` under their command-line names."
StockTransformerConfig.__module__ = __name__


@dataclass
class B2TTransformerConfig(StockTransformerConfig):
    """Every field is a flag of ``--arch b2t_transformer`` and a key of ``model:`` in a YAML file."""

    residual: ChoiceEnum(list(SCHEMES)) = field(
        default=B2T.name, metadata={"help": "residual scheme: how each sub-layer is wrapped"}
    )
    layer_sharing: ChoiceEnum(list(STRATEGIES)) = field(
        default=none.__name__, metadata={"help": "how layers share parameters"}
    )
    encoder_unique_layers: Optional[int] = field(
        default=None, metadata={"help": "number of encoder parameter sets M, a divisor of --encoder-layers"}
    )
    decoder_unique_layers: Optional[int] = field(
        default=None, metadata={"help": "number of decoder parameter sets M, a divisor of --decoder-layers"}
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
    depth_scaled_init: bool = field(
        default=False, metadata={"help": "multiply the initial weights of the N layers of a stack by N**-0.5"}
    )
    admin_profile: Optional[str] = field(
        default=None,
        metadata={"help": "file of Admin's omegas, read before the first update, or written if it does not exist"},
    )


def _own_fields() -> list[tuple[str, Any, Any]]:
    """Return the fields that this plugin adds to fairseq's transformer."""
    stock = {stock.name for stock in dataclasses.fields(StockTransformerConfig)}
    return [
        (own.name, own.type, field(default=own.default, metadata=dict(own.metadata)))
        for own in dataclasses.fields(B2TTransformerConfig)
        if own.name not in stock
    ]


B2TLanguageModelConfig = make_dataclass(
    "B2TLanguageModelConfig",
    _stock_fields(TransformerLanguageModelConfig, _REDECLARED_IN_LANGUAGE_MODELS)
    + [own for own in _own_fields() if not own[0].startswith("encoder_")],
    bases=(FairseqDataclass,),
)
B2TLanguageModelConfig.__doc__ = "Every field is a flag of ``--arch b2t_transformer_lm`` and a key in a YAML file."
B2TLanguageModelConfig.__module__ = __name__

B2TSpeechConfig = make_dataclass(
    "B2TSpeechConfig",
    [own for own in _own_fields() if own[0] != "encoder_word_dropout"],
    bases=(FairseqDataclass,),
)
B2TSpeechConfig.__doc__ = "What ``--arch b2t_s2t_transformer`` adds to fairseq's flags; its encoder reads no words."
B2TSpeechConfig.__module__ = __name__

SPEECH_INPUT = (
    "conv_version",
    "conv_kernel_sizes",
    "conv_channels",
    "conv_out_channels",
    "input_feat_per_channel",
    "input_channels",
)
"""fairseq's settings of what lies below the layers of an encoder of speech."""


def fill_derived(settings: dict[str, Any]) -> None:
    """Fill in, in place, the decoder's dimensions that follow others where they are not given."""
    for name, source in (
        ("decoder_embed_dim", "encoder_embed_dim"),
        ("decoder_ffn_embed_dim", "encoder_ffn_embed_dim"),
        ("decoder_output_dim", "decoder_embed_dim"),
        ("decoder_input_dim", "decoder_embed_dim"),
    ):
        if settings.get(name) is None and source in settings:
            settings[name] = settings[source]


def as_namespace(
    cfg: DictConfig | argparse.Namespace | FairseqDataclass, config_class: type = B2TTransformerConfig
) -> argparse.Namespace:
    """Return a copy of a model's settings with every field set and the dimensions that depend on others filled in.

    What fairseq would take from the settings of the task is ``None`` if ``cfg`` is not part of a whole configuration.
    """
    if isinstance(cfg, DictConfig):
        given = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    else:
        given = {name: value for name, value in vars(cfg).items() if value is not dataclasses.MISSING}
    defaults = {f.name: f.default for f in dataclasses.fields(config_class) if f.name != "_name"}
    settings = {**defaults, **given}
    for name, value in settings.items():
        if isinstance(value, str) and value.startswith("${"):
            settings[name] = None
    fill_derived(settings)
    return argparse.Namespace(**settings)

"""The flags of ``b2t_transformer``: all of fairseq's transformer and this plugin's own, in one flat dataclass.

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
from omegaconf import DictConfig, OmegaConf

from .residual import B2T, SCHEMES
from .sharing import STRATEGIES, none

# fairseq declares or uses these in a way that does not survive flattening
_REDECLARED: dict[str, tuple[Any, str] | None] = {
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


def _stock_fields(config_class: type, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return fairseq's fields as (flat name, type, field)."""
    flat = []
    for stock in dataclasses.fields(config_class):
        name = prefix + stock.name
        if stock.name == "_name":
            continue
        if isinstance(stock.type, type) and issubclass(stock.type, FairseqDataclass):
            flat += _stock_fields(stock.type, f"{name}_")
        elif name not in _REDECLARED:
            metadata = dict(stock.metadata)
            if prefix and metadata.get("help"):
                metadata["help"] = f"{prefix[:-1]}: {metadata['help']}"
            flat.append((name, stock.type, field(default=stock.default, metadata=metadata)))
        elif _REDECLARED[name] is not None:
            redeclared_type, help_text = _REDECLARED[name]
            flat.append((name, redeclared_type, field(default=None, metadata={"help": help_text})))
    return flat


StockTransformerConfig = make_dataclass(
    "StockTransformerConfig", _stock_fields(TransformerConfig), bases=(FairseqDataclass,)
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
    depth_scaled_init: bool = field(
        default=False, metadata={"help": "multiply the initial weights of the N layers of a stack by N**-0.5"}
    )
    admin_profile: Optional[str] = field(
        default=None,
        metadata={"help": "file of Admin's omegas, read before the first update, or written if it does not exist"},
    )


_STOCK_NAMES = {stock.name for stock in dataclasses.fields(StockTransformerConfig)}

B2TSpeechConfig = make_dataclass(
    "B2TSpeechConfig",
    [
        (own.name, own.type, field(default=own.default, metadata=dict(own.metadata)))
        for own in dataclasses.fields(B2TTransformerConfig)
        if own.name not in {*_STOCK_NAMES, "encoder_word_dropout"}
    ],
    bases=(FairseqDataclass,),
)
B2TSpeechConfig.__doc__ = "What ``b2t_s2t_transformer`` adds to fairseq's flags; its encoder has no words to drop."
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
    ):
        if settings.get(name) is None and source in settings:
            settings[name] = settings[source]


def as_namespace(cfg: DictConfig | argparse.Namespace | FairseqDataclass) -> argparse.Namespace:
    """Return a copy of a model's settings with every field set and the dimensions that depend on others filled in."""
    if isinstance(cfg, DictConfig):
        given = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    else:
        given = {name: value for name, value in vars(cfg).items() if value is not dataclasses.MISSING}
    defaults = {f.name: f.default for f in dataclasses.fields(B2TTransformerConfig) if f.name != "_name"}
    settings = {**defaults, **given}
    fill_derived(settings)
    return argparse.Namespace(**settings)

"""fairseq's settings of its models, flattened.

fairseq's ``TransformerConfig`` is nested, and fairseq does not fill nested fields on the ``--arch`` route.  Flattened
(``encoder_embed_dim`` instead of ``encoder.embed_dim``), one class serves ``fairseq-train --arch`` and
``fairseq-hydra-train`` alike, under the names that fairseq's own command line uses.
"""

import dataclasses
from dataclasses import field, make_dataclass
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models.transformer import TransformerConfig

Redeclared = dict[str, "tuple[Any, str] | None"]

# fairseq declares these fields, or uses them, in a way that does not survive flattening
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
    # fairseq's transformer has no such flag
    "decoder_input_dim": None,
}

# In a YAML file fairseq's default of 512 would not follow --decoder-embed-dim, as it does on the command line.
REDECLARED_IN_LANGUAGE_MODELS: Redeclared = {
    name: (
        Optional[int],
        f"decoder {side} dimension, with an extra linear layer if it differs (default: --decoder-embed-dim)",
    )
    for name, side in (("decoder_input_dim", "input"), ("decoder_output_dim", "output"))
}


def stock_fields(config_class: type, redeclared: Redeclared, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return fairseq's fields as (flat name, type, field)."""
    flat = []
    for stock in dataclasses.fields(config_class):
        name = prefix + stock.name
        if stock.name == "_name":
            continue
        if isinstance(stock.type, type) and issubclass(stock.type, FairseqDataclass):
            flat += stock_fields(stock.type, redeclared, f"{name}_")
        elif name not in redeclared:
            metadata = dict(stock.metadata)
            if prefix and metadata.get("help"):
                metadata["help"] = f"{prefix[:-1]}: {metadata['help']}"
            flat.append((name, stock.type, field(default=stock.default, metadata=metadata)))
        elif (declaration := redeclared[name]) is not None:
            redeclared_type, help_text = declaration
            flat.append((name, redeclared_type, field(default=None, metadata={"help": help_text})))
    return flat


StockTransformerConfig = make_dataclass(
    "StockTransformerConfig", stock_fields(TransformerConfig, _REDECLARED), bases=(FairseqDataclass,)
)
StockTransformerConfig.__doc__ = "The fields of fairseq's ``TransformerConfig`` under their command-line names."
StockTransformerConfig.__module__ = __name__

SPEECH_INPUT = (
    "conv_version",
    "conv_kernel_sizes",
    "conv_channels",
    "conv_out_channels",
    "input_feat_per_channel",
    "input_channels",
)
"""fairseq's settings of the convolutions below the layers of a speech encoder."""


def fill_derived(settings: dict[str, Any]) -> None:
    """Set, in place, the dimensions of the decoder that are not given and follow from others."""
    for name, source in (
        ("decoder_embed_dim", "encoder_embed_dim"),
        ("decoder_ffn_embed_dim", "encoder_ffn_embed_dim"),
        ("decoder_output_dim", "decoder_embed_dim"),
        ("decoder_input_dim", "decoder_embed_dim"),
    ):
        if settings.get(name) is None and source in settings:
            settings[name] = settings[source]

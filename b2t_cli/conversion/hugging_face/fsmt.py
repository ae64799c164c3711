"""Post-LN models as FSMT, the architecture in transformers for models of fairseq; it needs no code of ours.

FSMT is a Post-LN Transformer with sinusoidal positions and LayerNorm, whose stacks have one width.  Shared layers
become separate layers.
"""

from __future__ import annotations

from typing import Any

import torch
from fairseq.models.transformer import TransformerModel
from fairseq.modules import SinusoidalPositionalEmbedding
from torch import Tensor

from b2t_common.errors import InputError
from b2t_common.names import STACKS, flag
from b2t_fairseq.normalization import DEFAULT as LAYER_NORM
from b2t_fairseq.residual import stock_scheme
from b2t_fairseq.settings.plan import Plan

from . import model as model_files
from .model import PADDING, special_symbols

# settings that change what is computed and that FSMT does not have
_REFUSED = ("layernorm_embedding", "no_token_positional_embeddings", "center_embedding")
_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "tanh": "tanh",
    "linear": "linear",
}
# what FSMT ties to the embedding of the decoder if all embeddings are one
_TIED = ("encoder.embed_tokens.weight", "decoder.output_projection.weight")
_ALTERNATIVE = "use --to transformers"


def configuration(plan: Plan, model: TransformerModel) -> dict[str, Any]:
    """Return the content of ``config.json``.

    Raises:
        InputError: FSMT does not have the scheme or a setting of the model.
    """
    _check(plan)
    settings = plan.settings
    config = {
        "model_type": "fsmt",
        "architectures": ["FSMTForConditionalGeneration"],
        **special_symbols(),
        "is_encoder_decoder": True,
        "dtype": str(model.encoder.embed_tokens.weight.dtype).removeprefix("torch."),
        "src_vocab_size": model.encoder.embed_tokens.num_embeddings,
        "tgt_vocab_size": model.decoder.embed_tokens.num_embeddings,
        "d_model": settings.encoder_embed_dim,
        "activation_function": _ACTIVATIONS[settings.activation_fn],
        "scale_embedding": not settings.no_scale_embedding,
        "tie_word_embeddings": settings.share_all_embeddings,
        "max_position_embeddings": max(settings.max_source_positions, settings.max_target_positions),
        "dropout": settings.dropout,
        "attention_dropout": settings.attention_dropout,
        "activation_dropout": settings.activation_dropout,
    }
    for stack in plan.stacks:
        config |= {
            f"{stack.name}_layers": len(stack.depths),
            f"{stack.name}_ffn_dim": getattr(settings, f"{stack.name}_ffn_embed_dim"),
            f"{stack.name}_attention_heads": getattr(settings, f"{stack.name}_attention_heads"),
        }
    return config


def generation(model: TransformerModel) -> dict[str, Any]:
    """Return the content of ``generation_config.json``.

    A translation that reaches the maximum length ends, as with fairseq, but transformers gives this end the
    log-probability 0.
    """
    return {**model_files.generation(model), "forced_eos_token_id": model_files.END}


def weights(plan: Plan, model: TransformerModel) -> dict[str, Tensor]:
    """Return what ``model.safetensors`` holds: shared layers once for each layer, embeddings that are one once."""
    settings = plan.settings
    rows = max(settings.max_source_positions, settings.max_target_positions) + PADDING + 1
    table = SinusoidalPositionalEmbedding.get_embedding(rows, settings.encoder_embed_dim, PADDING)
    tensors = {f"{stack}.embed_positions.weight": table for stack in STACKS}
    tensors |= {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(".version")}
    if settings.share_all_embeddings:
        tensors = {name: t for name, t in tensors.items() if name not in _TIED}
    return {f"model.{name}": torch.clone(tensor).contiguous() for name, tensor in tensors.items()}


def _check(plan: Plan) -> None:
    settings, post_ln = plan.settings, stock_scheme(normalize_before=False)
    scheme = plan.stacks[0].scheme
    if scheme is not post_ln:
        raise InputError(
            f"--residual {scheme.name} cannot be written as FSMT, which is {post_ln.title}, {post_ln.equation}; "
            f"without {scheme.title}, {scheme.equation}, it would translate wrongly; {_ALTERNATIVE}"
        )
    if settings.norm != LAYER_NORM:
        raise InputError(f"--norm {settings.norm}: FSMT has LayerNorm only; {_ALTERNATIVE}")
    for name in _REFUSED:
        if getattr(settings, name):
            raise InputError(f"{flag(name)}: FSMT does not have that; {_ALTERNATIVE}")
    if any(stack.positions is not None and stack.positions.is_learned for stack in plan.stacks):
        raise InputError(f"learned positions: FSMT has sinusoidal positions only; {_ALTERNATIVE}")
    widths = {
        name: getattr(settings, name) for name in ("encoder_embed_dim", "decoder_embed_dim", "decoder_output_dim")
    }
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{flag(name)} {value}" for name, value in widths.items())
        raise InputError(f"{listed}: FSMT has one width; {_ALTERNATIVE}")
    if settings.activation_fn not in _ACTIVATIONS:
        raise InputError(f"--activation-fn {settings.activation_fn}: FSMT does not have that; {_ALTERNATIVE}")

"""The files of a model's folder for transformers, but those of its tokenizer: configuration, weights and code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairseq.models.transformer import TransformerModel
from torch import Tensor

from b2t_common.errors import InputError
from b2t_common.names import spelled
from b2t_fairseq.residual import ResidualScheme
from b2t_fairseq.settings.plan import Plan, StackPlan, plan_translation

from ..building import build, settings_of
from ..export import tied_names
from .scheme_source import scheme_source

BEGIN, PADDING, END = 0, 1, 2
"""The symbols of fairseq's dictionaries that have a place of their own."""

_FILES = Path(__file__).parent / "files"
CODE = ("modeling_b2t.py", "stacks_b2t.py", "layers_b2t.py")
AUTO_MAP = {
    "AutoConfig": "modeling_b2t.B2TConfig",
    "AutoModelForSeq2SeqLM": "modeling_b2t.B2TForConditionalGeneration",
}
# what a checkpoint has for fairseq's versions and for training
_LEFT_OUT = frozenset({"version", "mean_gradient", "_float_tensor"})
_REFUSED = {
    "adaptive_softmax_cutoff": "an adaptive softmax gives no logits, which transformers needs for its search",
    "cross_self_attention": "its self-attention reads the source too, which the code for transformers does not support",
    "no_cross_attention": "a decoder without cross-attention is not supported by the code for transformers",
    "encoder_xformers_att_config": "the code for transformers has PyTorch's attention only",
    "decoder_xformers_att_config": "the code for transformers has PyTorch's attention only",
}
# fairseq's default of --max-len-b
_MAX_LENGTH = 200


def planned_model(state: Mapping[str, Any]) -> tuple[Plan, TransformerModel]:
    """Return the plan and the model of a checkpoint of this plugin.

    Raises:
        InputError: it is of another model, or has a setting that transformers cannot have.
    """
    settings = settings_of(state)
    for name, reason in _REFUSED.items():
        if settings.get(name):
            given = spelled(name, settings[name])
            raise InputError(f"{given}: {reason}; use --to safetensors, or fairseq-generate with this plugin")
    return plan_translation(Namespace(**settings)), build(settings, state["model"])


def configuration(plan: Plan, model: TransformerModel) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    settings = plan.settings
    return {
        "model_type": "b2t",
        "architectures": ["B2TForConditionalGeneration"],
        "auto_map": AUTO_MAP,
        **special_symbols(),
        "is_encoder_decoder": True,
        "tie_word_embeddings": settings.share_all_embeddings or settings.share_decoder_input_output_embed,
        "dtype": str(model.encoder.embed_tokens.weight.dtype).removeprefix("torch."),
        "residual": settings.residual,
        **{f"{stack.name}_stack": _stack(stack, settings, getattr(model, stack.name)) for stack in plan.stacks},
        "scheme_settings": dict(plan.stacks[0].scheme_settings),
        "activation": settings.activation_fn,
        "scale_embedding": not settings.no_scale_embedding,
        "center_embedding": settings.center_embedding,
        "dropout": settings.dropout,
        "attention_dropout": settings.attention_dropout,
        "activation_dropout": settings.activation_dropout or getattr(settings, "relu_dropout", 0.0),
        "tied": by_module(tied_names(model), [name for name, _ in model.named_parameters(remove_duplicate=False)]),
    }


def special_symbols() -> dict[str, int]:
    """Return the symbols with a place of their own, under the names of transformers; fairseq begins with the end."""
    return {"bos_token_id": BEGIN, "pad_token_id": PADDING, "eos_token_id": END, "decoder_start_token_id": END}


def _stack(plan: StackPlan, settings: Namespace, stack: Any) -> dict[str, Any]:
    positions = None if plan.positions is None else "learned" if plan.positions.is_learned else "sinusoidal"
    described = {
        "vocab_size": stack.embed_tokens.num_embeddings,
        "embed_dim": plan.embed_dim,
        "ffn_dim": getattr(settings, f"{plan.name}_ffn_embed_dim"),
        "heads": getattr(settings, f"{plan.name}_attention_heads"),
        "num_layers": plan.num_layers,
        "depths": list(plan.depths),
        "other_layers": plan.other_layers,
        "num_sublayers": plan.num_sublayers,
        "norm": plan.build_norm.norm.name,
        "norm_settings": dict(plan.build_norm.settings),
        "positions": positions,
        "max_positions": settings.max_source_positions if plan.name == "encoder" else settings.max_target_positions,
        "embedding_norm": stack.layernorm_embedding is not None,
        "final_norm": stack.layer_norm is not None,
    }
    return described if plan.name == "encoder" else {**described, "output_dim": settings.decoder_output_dim}


def generation(model: TransformerModel) -> dict[str, Any]:
    """Return the content of ``generation_config.json``: what ``fairseq-generate`` does without flags.

    ``--lenpen 1`` divides by the length, ``--min-len 1`` forbids empty translations, padding is never chosen, and a
    search ends when it has as many translations as its beam.
    """
    return {
        **special_symbols(),
        "num_beams": 5,
        "length_penalty": 1.0,
        "early_stopping": True,
        "do_sample": False,
        "min_new_tokens": 1,
        # the end of the sentence counts here, but not for fairseq
        "max_new_tokens": min(_MAX_LENGTH, model.max_decoder_positions() - 1) + 1,
        "suppress_tokens": [PADDING],
    }


def weights(model: TransformerModel) -> dict[str, Tensor]:
    """Return what ``model.safetensors`` holds: each parameter once, and what residual schemes have computed."""
    tied = tied_names(model)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    for path, module in model.named_modules():
        if isinstance(module, ResidualScheme):
            tensors |= {f"{path}.{name}": tensor for name, tensor in module.named_buffers()}
    return {name: t.detach().contiguous() for name, t in tensors.items() if name.split(".")[-1] not in _LEFT_OUT}


def code(plan: Plan) -> dict[str, bytes]:
    """Return the Python files of the folder by name.

    Raises:
        InputError: the code of the residual scheme uses more than torch.
    """
    files = {name: (_FILES / name).read_bytes() for name in CODE}
    return {**files, "residual_b2t.py": scheme_source(plan.stacks[0].scheme).encode()}


def by_module(tied: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return tied parameters in few entries: one for a module whose parameters are all those of another module.

    Args:
        tied: for each further name of a parameter the name under which it is stored.
        names: the names of all parameters.
    """
    under: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            under.setdefault(".".join(parts[:end]), []).append(name)
    entries: dict[str, str] = {}
    done: set[str] = set()
    for name, owner in tied.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1) if name not in done else ():
            module, rest = ".".join(parts[:end]), name[len(".".join(parts[:end])) :]
            other = owner.removesuffix(rest)
            if all(tied.get(each) == other + each[len(module) :] for each in under[module]):
                entries[module] = other
                done.update(under[module])
                break
    return entries

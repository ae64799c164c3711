"""What the models have in common: the last steps of building one, and loading parameters that fit."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq.checkpoint_utils import prune_state_dict
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_common.model_line import ModelLine, format_model_line, sharing_flags
from b2t_common.names import flag

from ..initialization import draw_weights, scale_embeddings
from ..kernels.compilation import Mixin, compile_layers
from ..layer_stack import LayerStack, layer_stacks
from ..residual.contract import EMBEDDING, SCORES, VALUES
from ..settings.plan import Plan
from ..sharing import Sharing
from ..tying import equal, shared_parameters, tie_parameters

logger = logging.getLogger(__name__)


def fairseq_settings(plan: Plan) -> Namespace:
    """Return the settings from which fairseq builds a model of this plan.

    Raises:
        InputError: activations are to be moved to the CPU, with tied layers on several devices.
    """
    _refuse_offloading_of_tied_layers(plan)
    settings = Namespace(**vars(plan.settings))
    for stack in plan.stacks:
        setattr(settings, f"{stack.name}_normalize_before", stack.scheme.norm_after_stack)
        if stack.scheme.norm_of_embedding:
            settings.layernorm_embedding = True
        is_learned = stack.positions is not None and stack.positions.is_learned
        setattr(settings, f"{stack.name}_learned_pos", is_learned)
    # fairseq's TransformerConfig.from_namespace copies names that it does not know.  So the stacks find their plan, and
    # settings such as kernels, in their cfg.
    settings.stack_plans = {stack.name: stack for stack in plan.stacks}
    return settings


FILES_OF_FRESH_MODELS = ("encoder_embed_path", "decoder_embed_path", "load_pretrained_encoder_from")


def unread_files(settings: Namespace) -> dict[str, str]:
    """Return the files that a fresh model needs and that are missing, by flag; a checkpoint has what is in them."""
    named = {name: getattr(settings, name, None) for name in FILES_OF_FRESH_MODELS}
    return {flag(name): path for name, path in named.items() if path and not Path(path).is_file()}


def initialize_and_tie(model: nn.Module, plan: Plan, drawn_embeddings: Sequence[nn.Module]) -> None:
    """Initialize the layers of a new model, tie them, and say so in one line of the log.

    Args:
        model: a model that has its stacks as children.
        plan: its plan.
        drawn_embeddings: the embeddings whose tables were drawn at random, not read from a file.
    """
    stacks = layer_stacks(model)
    model.unread_files = unread_files(plan.settings)  # type: ignore[assignment]
    for stack in stacks:
        for layer in stack.layer_list():
            scheme = layer.residual
            if scheme.xavier is not None:
                draw_weights(layer, scheme.xavier, scheme.gain(SCORES), scheme.gain(VALUES))
        plan.initialization.rewrite(stack.layer_list(), stack.plan.embed_dim, stack.plan.num_sublayers)
    scale_embeddings(drawn_embeddings, stacks[-1].layer_list()[-1].residual.gain(EMBEDDING))
    unshared = sum(parameter.numel() for parameter in model.parameters())
    tie_layers(stacks)
    for stack in stacks:
        if plan.settings.compile:
            compile_layers(stack.layer_list())
    sets = {stack.name: stack.indices for stack in stacks}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    line = ModelLine(plan.settings.residual, plan.sharing_flags, sets, parameters, unshared)
    logger.info(format_model_line(line))


def tie_layers(stacks: Sequence[LayerStack]) -> None:
    """Tie the layers of a model's stacks as their plans say, encoder first."""
    for stack in stacks:
        tie_parameters(stack.layer_list(), stack.indices, stack.plan.sharing.includes)
    first = stacks[0].plan.sharing
    if first.with_other_stack:
        layers = [layer for stack in stacks for layer in stack.layer_list()]
        indices = [index for stack in stacks for index in stack.indices]
        tie_parameters(layers, indices, first.includes_in_common)


class LoadsCheckpoints(Mixin):
    """How a model is loaded: pruned if ``--encoder-layers-to-keep`` says so, and refused in one line if unfit.

    Attributes:
        unread_files: files that a fresh model needs and that are missing, by flag; none once the model is loaded.
    """

    unread_files: dict[str, str]

    def load_state_dict(self, state_dict, strict=True, model_cfg=None, args=None):
        """Load parameters, pruned if ``--decoder-layers-to-keep`` says so and they are not pruned yet.

        fairseq's own pruning forgets which residual scheme the parameters belong to, and drops the flag, so that a
        checkpoint written after fine-tuning a pruned model could not be loaded again.

        Args:
            state_dict: parameters and buffers by name.
            strict: refuse missing and unexpected names.
            model_cfg: the model's settings.
            args: superseded by ``model_cfg``.

        Raises:
            InputError: the parameters do not fit, or are of another residual scheme, sharing or dictionary.
        """
        stacks = layer_stacks(self)
        given = {name: getattr(model_cfg, name, None) for name in (f"{s.name}_layers_to_keep" for s in stacks)}
        prefix = f"{stacks[0].name}.layers."
        num_stored = len({name.split(".")[2] for name in state_dict if name.startswith(prefix)})
        if all(given.values()) and num_stored > len(stacks[0].layer_list()):
            metadata = _of_kept_layers(getattr(state_dict, "_metadata", {}), stacks)
            state_dict = OrderedDict(prune_state_dict(state_dict, model_cfg))
            state_dict._metadata = metadata
            for name, value in given.items():
                setattr(model_cfg, name, value)
        _refuse_other_stacks(stacks, state_dict)
        try:
            loaded = super().load_state_dict(state_dict, strict)
        except RuntimeError as error:
            raise InputError(_reasons(str(error))) from None
        self.unread_files.clear()
        return loaded


def _of_kept_layers(metadata: Mapping[str, Any], stacks: Sequence[LayerStack]) -> dict[str, Any]:
    """Return what a checkpoint says of itself, with the sharing of those layers that are kept."""
    kept = dict(metadata)
    for stack in stacks:
        entry = kept.get(stack.name, {})
        if "sharing" in entry:
            sharing = Sharing.of_record(entry["sharing"]).at(stack.plan.depths)
            kept[stack.name] = {**entry, "sharing": sharing.record()}
    return kept


def _refuse_other_stacks(stacks: Sequence[LayerStack], state_dict: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose stacks differ where this model's encoder and decoder are the same."""
    owners: dict[tuple[int, str], Tensor] = {}
    sharing = stacks[0].plan.sharing
    for stack in stacks if sharing.with_other_stack else ():
        for depth, (layer, index) in enumerate(zip(stack.layer_list(), stack.indices, strict=True)):
            for name in shared_parameters(layer, sharing.includes_in_common):
                stored = state_dict.get(f"{stack.name}.{stack.layers_name}.{depth}.{name}")
                if stored is not None and not equal(owners.setdefault((index, name), stored), stored):
                    raise InputError(
                        f"the checkpoint's {stack.name} does not share {name} of layer {depth} with the other stack, "
                        f"but this model does (--layer-sharing {sharing_flags(vars(stack.cfg))}): give the "
                        "flags that the checkpoint was trained with"
                    )


def _reasons(errors: str) -> str:
    """Return the plugin's own reasons why a checkpoint does not fit, or else PyTorch's first one, in one line."""
    reasons = [line.strip().rstrip(".") for line in errors.split("\n")[1:] if line.strip()]
    own = [reason for reason in reasons if reason.startswith("the checkpoint's ")]
    return "; ".join(own) if own else (reasons or [errors])[0]


def _refuse_offloading_of_tied_layers(plan: Plan) -> None:
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    is_shared = any(stack.sharing.is_shared for stack in plan.stacks)
    if plan.settings.offload_activations and is_shared and is_distributed:
        raise InputError(
            f"--offload-activations with --layer-sharing {plan.sharing_flags} cannot train on several "
            "devices: the gradient of a shared parameter would be reduced once for every layer; use "
            "--checkpoint-activations"
        )

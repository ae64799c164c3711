"""What the models have in common: the last steps of building one, and loading parameters that fit."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Sequence

import torch
from fairseq.checkpoint_utils import prune_state_dict
from torch import nn

from b2t_common.errors import InputError

from ..initialization import by_scheme, scale_by_depth, scale_embeddings
from ..kernels.compilation import compile_layers
from ..residual import scheme_class
from ..settings.validation import STACKS, stack_indices
from ..sharing import none, tie_parameters
from ..stacks import layer_stacks

logger = logging.getLogger(__name__)


def for_layers(args: Namespace, stacks: Sequence[str] = STACKS) -> None:
    """Add to validated settings, in place, what fairseq's layers and this plugin's stacks read.

    Args:
        args: a model's settings.
        stacks: which stacks the model has.

    Raises:
        InputError: activations that are moved to the CPU, with tied layers on several devices.
    """
    scheme = scheme_class(args.residual)
    for stack in stacks:
        setattr(args, f"{stack}_normalize_before", scheme.norm_after_stack)
        setattr(args, f"{stack}_unpruned_layers", getattr(args, f"{stack}_layers"))
    _refuse_offloading_of_tied_layers(args)


def finish(model: nn.Module, args: Namespace, drawn: Sequence[nn.Module]) -> None:
    """Initialize the layers of a new model, tie them, and say so in one line of the log.

    Args:
        model: a model that has its stacks as children.
        args: its settings.
        drawn: the embeddings whose tables were drawn at random, not read from a file.
    """
    stacks = layer_stacks(model)
    for stack in stacks:
        by_scheme(stack.layer_list())
        if args.depth_scaled_init:
            scale_by_depth(stack.layer_list())
    scale_embeddings(drawn, scheme_class(args.residual).embedding_gain(args.decoder_layers))
    unshared = sum(parameter.numel() for parameter in model.parameters())
    for stack in stacks:
        stack.indices = stack_indices(args, stack.stack)
        tie_parameters(stack.layer_list(), stack.indices)
        if args.compile:
            compile_layers(stack.layer_list())
    sets = ", ".join(f"{stack.stack} {' '.join(map(str, stack.indices))}" for stack in stacks)
    logger.info(
        f"--residual {args.residual} --layer-sharing {args.layer_sharing}; parameter sets: {sets}; "
        f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters ({unshared:,} without sharing)"
    )


class LoadsPruned:
    """A model that leaves layers out as it is loaded, if ``--encoder-layers-to-keep`` and its like say so."""

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
            RuntimeError: the parameters do not fit, are of another residual scheme or of another sharing.
        """
        stacks = layer_stacks(self)
        flags = [f"{stack.stack}_layers_to_keep" for stack in stacks]
        given = {flag: getattr(model_cfg, flag, None) for flag in flags}
        prefix = f"{stacks[0].stack}.layers."
        num_stored = len({name.split(".")[2] for name in state_dict if name.startswith(prefix)})
        if all(given.values()) and num_stored > len(stacks[0].layer_list()):
            metadata = getattr(state_dict, "_metadata", None)
            state_dict = OrderedDict(prune_state_dict(state_dict, model_cfg))
            state_dict._metadata = metadata
            for flag, value in given.items():
                setattr(model_cfg, flag, value)
        return super().load_state_dict(state_dict, strict)


def _refuse_offloading_of_tied_layers(args: Namespace) -> None:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if args.offload_activations and args.layer_sharing != none.__name__ and distributed:
        raise InputError(
            f"--offload-activations with --layer-sharing {args.layer_sharing} cannot train on several devices: the "
            "gradient of a shared parameter would be reduced once for every layer; use --checkpoint-activations"
        )

"""What encoder and decoder have in common: how layers are built, run, wrapped, and which checkpoints fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from fairseq.distributed import fsdp_wrap
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from b2t_common.model_line import sharing_flags

from .dictionaries import checksum
from .kernels import FAST
from .kernels.attention import padding_scores
from .kernels.compilation import Mixin
from .normalization import DEFAULT, padded_norms
from .residual import ResidualScheme
from .residual.contract import join_streams, split_streams
from .settings.plan import StackPlan
from .sharing import Sharing
from .tying import same_layers, shared_parameters


class LayerStack(Mixin):
    """What encoder and decoder have in common: how layers are built and which checkpoints fit.

    Attributes:
        name: ``"encoder"`` or ``"decoder"``.
        layers_name: the name of the list of layers in checkpoints.
        embeds_time_first: whether embeddings are normalized as ``(seq_len, batch, embed_dim)``; fairseq normalizes them
            as ``(batch, seq_len, embed_dim)``.
        inputs: the modules from which each layer, and what follows the stack, reads its input; ``None``: the input of
            a layer is the output of the layer below.
    """

    name: str
    layers_name = "layers"
    embeds_time_first = False
    layer_norm: Any
    layernorm_embedding: Any
    embed_positions: Any
    _num_built = 0

    @property
    def plan(self) -> StackPlan:
        """The plan of this stack, which :func:`~b2t_fairseq.models.assembly.fairseq_settings` put into ``cfg``."""
        return self.cfg.stack_plans[self.name]

    @property
    def indices(self) -> list[int]:
        """The parameter set of each layer."""
        return list(self.plan.indices)

    def layer_list(self) -> list[Any]:
        """Return all layers; unlike iteration over ``self.layers``, LayerDrop leaves none out."""
        return list(self.layers.children())

    def next_residual(self) -> ResidualScheme:
        """Return the residual scheme of the layer that is being built; fairseq builds layers from the bottom."""
        self._num_built += 1
        return self.plan.residual(self._num_built - 1)

    def build_inputs(self) -> None:
        """Build what stands beside the layers: norms, positions, and what the layers read if the scheme has that."""
        self.replace_norms()
        self.replace_positions()
        build, depths = self.plan.scheme.stack_input, range(len(self.layers) + 1)
        self.inputs = None
        if build is not None:
            dim, build_norm = self.plan.embed_dim, self.plan.build_norm
            self.inputs = nn.ModuleList(build(depth, dim, build_norm) for depth in depths)

    def replace_norms(self) -> None:
        """Replace the norms that fairseq has built beside the layers; it has no hook for them."""
        if self.layer_norm is not None:
            self.layer_norm = self.plan.build_norm(self.plan.embed_dim)
        # A speech encoder has no such norm.
        if getattr(self, "layernorm_embedding", None) is not None:
            self.layernorm_embedding = self.plan.build_norm(self.plan.embed_dim)

    def replace_positions(self) -> None:
        """Replace the positions that fairseq has built, if the plan has others; fairseq has no hook for them."""
        positions = self.plan.positions
        if positions is not None and type(self.embed_positions) is not positions.module:
            lengths = {"encoder": self.cfg.max_source_positions, "decoder": self.cfg.max_target_positions}
            self.embed_positions = positions.build(lengths[self.name], self.plan.embed_dim, self.padding_idx, self.cfg)

    def set_padding(self, mask: Tensor | None) -> None:
        """Tell the norms beside the layers where the input is padded: true there, ``(batch, seq_len)``, or ``None``."""
        if not self.plan.build_norm.norm.needs_padding:
            return
        for name, module in self.named_children():
            is_batch_first = name == "layernorm_embedding" and not self.embeds_time_first
            for norm in padded_norms(module) if name != self.layers_name else []:
                norm.padding_mask = mask if mask is None or is_batch_first else mask.t()

    def needs_mask(self, mask: Tensor) -> bool:
        """Return whether a mask must be applied.

        On a GPU the answer is always yes, because looking into the mask would make the host wait, which costs more
        than masking.
        """
        return (mask.is_cuda and self.cfg.kernels == FAST) or bool(mask.any())

    def padding_scores(self, padding: Tensor | None, dtype: torch.dtype, is_causal: bool = False) -> Tensor | None:
        """Return a padding mask, ``(batch, keys)``, as the fast attention adds it to its scores.

        It is ``None`` if there is nothing to hide, and with fairseq's kernels.
        """
        if padding is None or self.cfg.kernels != FAST:
            return None
        # What is compiled is compiled for one layout, and copies the mask itself.
        is_aligned = padding.is_cuda and dtype.itemsize == 2 and not self.cfg.compile
        return padding_scores(padding, dtype, is_causal, multiple=8 if is_aligned else 1)

    def time_first(self, x: Tensor) -> Tensor:
        """Return ``(batch, seq_len, embed_dim)`` as ``(seq_len, batch, embed_dim)``, the first layer's input."""
        x = x.transpose(0, 1)
        # torch.compile specializes on memory layout, so the first layer gets the layout of all others.
        return x.contiguous() if self.cfg.compile else x

    def run_layers(self, x: Tensor, call: Callable[[int, Any, Tensor], Tensor]) -> Tensor:
        """Return the output of the stack, ``(seq_len, batch, embed_dim)``, normalized if it ends with a norm.

        Args:
            x: input of the first layer, ``(seq_len, batch, embed_dim)``.
            call: called with the depth of a layer, the layer and its input; returns its output.  With several residual
                streams both have one dimension more, the first: ``(num_streams, seq_len, batch, embed_dim)``.
        """
        if self.cfg.center_embedding:
            x = x - x.mean(dim=-1, keepdim=True)
        history: list[Tensor] = []
        scheme = self.plan.scheme
        if scheme.num_streams > 1:
            x = join_streams((x,) * scheme.num_streams)
        for depth, layer in enumerate(self.layers):
            if self.inputs is not None:
                x = self.inputs[depth](x, history)
            x = call(depth, layer, x)
        if self.inputs is not None:
            x = self.inputs[-1](x, history)
        norm = _identity if self.layer_norm is None else self.layer_norm
        return scheme.stack_output(split_streams(x, scheme.num_streams), norm)

    def first_stream(self, x: Tensor) -> Tensor:
        """Return the stream that sub-layers read, ``(seq_len, batch, embed_dim)``, of a layer's input or output."""
        return x if self.plan.scheme.num_streams == 1 else x[0]

    def wrap_layer(self, cfg, layer: nn.Module) -> nn.Module:
        """Apply ``--checkpoint-activations``, ``--offload-activations`` and fully sharded data parallelism."""
        if cfg.offload_activations:
            layer = checkpoint_wrapper(layer, offload_to_cpu=True)
        elif cfg.checkpoint_activations:
            # fairseq's wrapper runs a backward pass inside the backward pass.  With it the gradient of a tied parameter
            # is ready more than once, which DistributedDataParallel refuses.
            layer.forward = _Recomputed(layer.forward)
        return fsdp_wrap(layer, min_num_params=0 if cfg.checkpoint_activations else cfg.min_params_to_wrap)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Parameter names and shapes are the same for many schemes: only this entry tells them apart.
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]]["residual"] = self.plan.scheme.name
            destination._metadata[prefix[:-1]]["sharing"] = self.plan.sharing.record()
            destination._metadata[prefix[:-1]]["norm"] = self.plan.build_norm.norm.name
            destination._metadata[prefix[:-1]]["dictionary"] = checksum(self.dictionary)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ):
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        own = {"residual": self.plan.scheme.name, "norm": self.plan.build_norm.norm.name}
        # Before there was a choice, all norms were LayerNorms.
        stored = {"norm": DEFAULT, **local_metadata} if "residual" in local_metadata else local_metadata
        error_msgs += [
            f"the checkpoint's {self.name} was trained with --{name} {stored[name]}, but this model has "
            f"--{name} {value}"
            for name, value in own.items()
            if stored.get(name, value) != value
        ]
        self._compare_dictionaries(state_dict, prefix, local_metadata.get("dictionary"), error_msgs)
        self._compare_sharing(state_dict, prefix, local_metadata.get("sharing"), error_msgs)

    def _compare_sharing(
        self, state_dict: dict[str, Tensor], prefix: str, record: dict[str, Any] | None, error_msgs: list[str]
    ) -> None:
        """Add a message if a checkpoint, perhaps an old one without a record of it, shares in another way."""
        own = self.plan.sharing
        stored = None if record is None else Sharing.of_record(record)
        if (stored is None or stored.is_like(own)) and own.num_sets < len(own.indices):
            # Whatever a checkpoint says, values that are not equal would be lost.
            indices = self._indices_in(state_dict, prefix)
            stored = stored if indices is None else replace(own, indices=tuple(indices))
        if stored is not None and not stored.is_like(own):
            unique = getattr(self.cfg, f"{self.name}_unique_layers", None)
            flags = sharing_flags(vars(self.cfg)) + (f" --{self.name}-unique-layers {unique}" if unique else "")
            error_msgs.append(
                f"the checkpoint's {self.name} layers use the parameter sets {stored}, but this model uses {own} "
                f"(--layer-sharing {flags}): give the flags that the checkpoint was trained with"
                + ("" if own.is_shared else ", or untie it with b2t grow")
            )

    def _compare_dictionaries(
        self, state_dict: dict[str, Tensor], prefix: str, stored: str | None, error_msgs: list[str]
    ) -> None:
        """Add a message if a checkpoint, perhaps an old one without a checksum, was trained with other words."""
        own, table = checksum(self.dictionary), state_dict.get(f"{prefix}embed_tokens.weight")
        if own is None:
            return
        size = len(self.dictionary)
        if table is not None and len(table) != size:
            error_msgs.append(
                f"the checkpoint's {self.name} was trained with {len(table)} symbols, but the dictionary here has "
                f"{size}: give the data that the checkpoint was trained on"
            )
        elif stored not in (None, own):
            error_msgs.append(
                f"the checkpoint's {self.name} was trained with another dictionary of {size} symbols than that here: "
                "give the data that the checkpoint was trained on"
            )

    def _indices_in(self, state_dict: dict[str, Tensor], prefix: str) -> list[int] | None:
        """Return which layers hold equal parameters in a checkpoint, ``None`` if it lacks some of them."""
        layers = []
        for depth, layer in enumerate(self.layer_list()):
            shared = shared_parameters(layer, self.plan.sharing.includes)
            names = [f"{prefix}{self.layers_name}.{depth}.{name}" for name in shared]
            if any(name not in state_dict for name in names):
                return None
            layers.append({name.split(".", prefix.count(".") + 2)[-1]: state_dict[name] for name in names})
        return same_layers(layers)


def _identity(x: Tensor) -> Tensor:
    return x


def layer_stacks(model: nn.Module) -> list[LayerStack]:
    """Return the stacks of a model, encoder first."""
    return [module for module in model.children() if isinstance(module, LayerStack)]


class _Recomputed:
    """A layer's forward whose activations are computed anew in the backward pass instead of kept."""

    def __init__(self, forward: Callable) -> None:
        self.forward = forward

    def __call__(self, *args, **kwargs):
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)

"""From flags to layers: a model's settings are checked once and become one plan for each stack.

Whatever comes after reads the plan: building and tying of layers, counting, scoring, reading of runs.  No other module
looks up the class of a model's scheme to build it, or computes which of its layers uses which parameter set.
"""

from __future__ import annotations

import dataclasses
import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from b2t_common.errors import InputError
from b2t_common.model_line import sharing_flags
from b2t_common.names import STACKS

from ..initialization import Initialization, chosen_initialization
from ..normalization import NormBuilder, norm_builder
from ..positions import Positions, positions_of_stack
from ..residual import LayerPosition, ResidualScheme, scheme_class, stock_scheme
from ..sharing import NO_SHARING, SHARE_SUBLAYERS, STRATEGIES, Sharing, layer_indices, of_stack
from .fields import B2TLanguageModelConfig, B2TTransformerConfig, as_namespace
from .validation import validate, validate_pruning
from .validation_lm import validate_language_model
from .validation_norms import validate_norm, validate_positions
from .validation_s2t import validate_speech
from .validation_sharing import has_cross_attention, has_what_is_shared, validate_sharing, validate_stacks_in_common

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StackPlan:
    """The layers of one stack, from the bottom.

    Attributes:
        name: ``"encoder"`` or ``"decoder"``.
        scheme: the class of the residual scheme.
        num_layers: N, before layers were pruned with ``--encoder-layers-to-keep``.
        depths: the depth of each layer that is built, from 0; a pruned model keeps the depths of training.
        sharing: how these layers share parameters.
        embed_dim: width of the residual stream.
        num_sublayers: sub-layers of a layer: 2, or 3 with cross-attention.
        other_layers: number of layers of the other stack that the scheme has to know of; 0 if there is none.
        scheme_settings: the values of the scheme's own flags.
        build_norm: builds a norm, given its width.
        positions: the positions of its input; ``None`` if there are none.
    """

    name: str
    scheme: type[ResidualScheme]
    num_layers: int
    depths: tuple[int, ...]
    sharing: Sharing
    embed_dim: int
    num_sublayers: int
    other_layers: int
    scheme_settings: Mapping[str, Any]
    build_norm: NormBuilder
    positions: type[Positions] | None

    @property
    def indices(self) -> tuple[int, ...]:
        """The number of the parameter set that each layer uses."""
        return self.sharing.indices

    @property
    def num_sets(self) -> int:
        """The number of parameter sets, M if no layer is pruned."""
        return self.sharing.num_sets

    def residual(self, layer: int) -> ResidualScheme:
        """Return the residual scheme of a layer, given its number among the layers that are built."""
        position = LayerPosition(
            stack=self.name,
            index=self.depths[layer],
            num_layers=self.num_layers,
            embed_dim=self.embed_dim,
            num_sublayers=self.num_sublayers,
            other_layers=self.other_layers,
            build_norm=self.build_norm,
            settings=self.scheme_settings,
        )
        return self.scheme(position)


@dataclass(frozen=True)
class Plan:
    """The settings of a model and what follows from them.

    Attributes:
        settings: every setting, with the dimensions that follow from others filled in.
        stacks: the encoder's plan and the decoder's, or the decoder's alone.
        initialization: what rewrites the weights of a fresh model.
    """

    settings: Namespace
    stacks: tuple[StackPlan, ...]
    initialization: type[Initialization]

    def stack(self, name: str) -> StackPlan:
        """Return the plan of ``"encoder"`` or ``"decoder"``."""
        return next(stack for stack in self.stacks if stack.name == name)

    @property
    def sharing_flags(self) -> str:
        """The flags of sharing after ``--layer-sharing``, as on a command line."""
        return sharing_flags(vars(self.settings))


def plan_translation(cfg: Any) -> Plan:
    """Check the settings of a translation model and plan its stacks.

    Args:
        cfg: the settings: a ``DictConfig``, a ``B2TTransformerConfig`` or a flat namespace.

    Raises:
        InputError: settings contradict each other, or fairseq would ignore one; the message quotes the values.
    """
    settings = as_namespace(cfg)
    plan = _validated_plan(settings, STACKS)
    validate_pruning(settings)
    return plan


def plan_language_model(cfg: Any, num_symbols: int, num_targets: int) -> Plan:
    """Check the settings of a language model and plan its decoder.

    Args:
        cfg: the settings: a ``DictConfig``, a ``B2TLanguageModelConfig`` or a flat namespace.
        num_symbols: size of the dictionary.
        num_targets: size of the dictionary of the output, which ``--output-dictionary-size`` may limit.

    Raises:
        InputError: as of :func:`plan_translation`.
    """
    settings = as_namespace(cfg, B2TLanguageModelConfig)
    plan = _validated_plan(settings, ("decoder",))
    validate_language_model(settings, num_symbols, num_targets)
    return plan


def plan_speech(cfg: Namespace) -> Plan:
    """Check the settings of a speech-to-text model and plan its stacks.

    Args:
        cfg: the settings, filled by the architecture.

    Raises:
        InputError: as of :func:`plan_translation`.
    """
    settings = as_namespace(cfg)
    plan = _validated_plan(settings, STACKS)
    validate_pruning(settings)
    validate_speech(settings)
    if plan.initialization.needs_unit_embeddings and not plan.stack("encoder").scheme.norm_of_embedding:
        logger.warning(
            f"--init {plan.initialization.name} was derived for embeddings of standard deviation 1; what the encoder's "
            "layers read here comes from convolutions"
        )
    return plan


def plan_of_checkpoint(settings: Mapping[str, Any]) -> Plan:
    """Plan the stacks of a trained model, which may also be one of fairseq's own.

    Args:
        settings: the model's settings as a checkpoint holds them; they were checked when it was trained.

    Raises:
        InputError: they are not the settings of a Transformer.
    """
    stacks = tuple(stack for stack in STACKS if f"{stack}_layers" in settings)
    if "decoder" not in stacks:
        raise InputError(f"the model {settings.get('_name') or settings.get('arch')} has no decoder layers")
    filled = dict(settings)
    if not filled.get("residual"):
        normalize_before = filled.get("encoder_normalize_before", filled.get("decoder_normalize_before"))
        filled["residual"] = stock_scheme(bool(normalize_before)).name
    config = B2TTransformerConfig if len(stacks) == 2 else B2TLanguageModelConfig
    planned = as_namespace(Namespace(**filled), config)
    return _plan(planned, scheme_class(planned.residual), stacks)


def _validated_plan(settings: Namespace, stacks: Sequence[str]) -> Plan:
    scheme = scheme_class(settings.residual)
    validate(settings, scheme, stacks)
    validate_sharing(settings, scheme, stacks)
    defaults = {field.name: field.default for field in dataclasses.fields(B2TTransformerConfig)}
    validate_norm(settings, scheme, stacks, defaults)
    validate_positions(settings, stacks, defaults)
    for stack in stacks:
        scheme.check(settings, stack)
    plan = _plan(settings, scheme, stacks)
    if getattr(settings, "share_encoder_decoder", False):
        # with the layers that are pruned
        whole = {stack.name: _sharing(settings, stack.name, stack.num_layers, stacks) for stack in plan.stacks}
        validate_stacks_in_common(settings, whole)
    return plan


def _plan(settings: Namespace, scheme: type[ResidualScheme], stacks: Sequence[str]) -> Plan:
    planned = tuple(_plan_stack(settings, scheme, stack, stacks) for stack in stacks)
    return Plan(settings, planned, chosen_initialization(settings.init, settings.depth_scaled_init))


def _plan_stack(settings: Namespace, scheme: type[ResidualScheme], name: str, stacks: Sequence[str]) -> StackPlan:
    num_layers = getattr(settings, f"{name}_layers")
    if num_layers < 1:
        raise InputError(f"--{name}-layers {num_layers}: a stack needs at least one layer")
    depths = _kept_layers(settings, name, num_layers)
    (other,) = {*STACKS} - {name}
    sharing = _sharing(settings, name, num_layers, stacks)
    sees_other = sharing.num_sublayers == 3 or (name == "encoder" and other in stacks)
    return StackPlan(
        name=name,
        scheme=scheme,
        num_layers=num_layers,
        depths=tuple(depths),
        sharing=sharing.at(depths),
        embed_dim=getattr(settings, f"{name}_embed_dim"),
        num_sublayers=sharing.num_sublayers,
        other_layers=getattr(settings, f"{other}_layers") if sees_other else 0,
        scheme_settings={name: getattr(settings, name) for name in scheme.flags},
        build_norm=norm_builder(settings, name),
        positions=positions_of_stack(settings, name),
    )


def _sharing(settings: Namespace, name: str, num_layers: int, stacks: Sequence[str]) -> Sharing:
    """Return how all layers of a stack share, those that are pruned too."""
    strategy = of_stack(settings.layer_sharing, name) if has_what_is_shared(settings, name, stacks) else NO_SHARING
    try:
        indices = layer_indices(strategy, num_layers, getattr(settings, f"{name}_unique_layers"))
    except InputError as error:
        where = f"--{name}-unique-layers" if strategy in STRATEGIES else name
        raise InputError(f"{where}: {error}") from None
    return Sharing(
        tuple(indices),
        SHARE_SUBLAYERS[settings.share_sublayers],
        settings.share_norms,
        with_other_stack=getattr(settings, "share_encoder_decoder", False),
        num_sublayers=3 if has_cross_attention(settings, name, stacks) else 2,
    )


def _kept_layers(settings: Namespace, stack: str, num_layers: int) -> list[int]:
    """Return the depths of the layers that are built, in ascending order."""
    listed = getattr(settings, f"{stack}_layers_to_keep")
    if not listed:
        return list(range(num_layers))
    given = [int(layer) if layer.strip().isdecimal() else num_layers for layer in listed.split(",")]
    kept = sorted(given)
    if kept[-1] >= num_layers or len(set(kept)) < len(kept):
        raise InputError(
            f"--{stack}-layers-to-keep {listed}: give distinct layers between 0 and {num_layers - 1}, as in 0,2,4"
        )
    return kept

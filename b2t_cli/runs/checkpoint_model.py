"""What a checkpoint says of its model; this imports fairseq, so it is imported only where a checkpoint is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from b2t_common.model_line import sharing_flags
from b2t_fairseq import checkpoints
from b2t_fairseq.counting import count_parameters
from b2t_fairseq.settings.fields import B2TTransformerConfig
from b2t_fairseq.settings.plan import plan_of_checkpoint

from .model import Model


def model_of_checkpoint(state: Mapping[str, Any], parameters: int | None = None) -> Model:
    """Return the model of a checkpoint.

    Args:
        state: the checkpoint.
        parameters: the number of parameters if it is known; otherwise they are counted.

    Raises:
        InputError: its settings are not those of a Transformer.
    """
    settings = checkpoints.model_settings(state)
    plan = plan_of_checkpoint(settings)
    return Model.of_sets(
        settings.get("residual") or "",
        sharing_flags(settings),
        {stack.name: stack.indices for stack in plan.stacks},
        count_parameters(plan, state["model"]) if parameters is None else parameters,
    )


def describe(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``scores.json`` says of a checkpoint's model: parameters, N and M of both stacks, settings.

    Raises:
        InputError: its settings are not those of a Transformer.
    """
    settings = checkpoints.model_settings(state)
    known = {field.name for field in dataclasses.fields(B2TTransformerConfig)} - checkpoints.EXECUTION_SETTINGS
    model = model_of_checkpoint(state)
    return {
        "parameters": model.parameters,
        "layers": model.layers,
        "unique_layers": model.unique_layers,
        "settings": {name: settings[name] for name in sorted(known & settings.keys())},
    }

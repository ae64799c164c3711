"""Which of the papers' results belong to a model's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from b2t_common.names import STACKS
from b2t_fairseq import checkpoints, positions
from b2t_fairseq.initialization import DEFAULT, chosen_initialization
from b2t_fairseq.settings.plan import plan_of_checkpoint
from b2t_fairseq.sharing import NO_SHARING

from . import published

# settings of training with their defaults, which do not change the function of a trained model, but its score
_RECIPE = {"encoder_word_dropout": 0, "decoder_word_dropout": 0, "init": DEFAULT, "positions": positions.DEFAULT}


def matching(
    settings: Mapping[str, Any], arxiv: str | None = None, kinds: Sequence[str] = ("rows", "averages")
) -> list[dict[str, Any]]:
    """Return the results of models with these settings: with scores by test set if there are any, otherwise averages.

    Args:
        settings: the settings of a model as its checkpoint has them.
        arxiv: number of the only paper to look in; both papers have 6-6-layer Post-LN models, trained differently.
        kinds: which results, see :func:`.published.results`; those of the first kind that has some.
    """
    for kind in kinds:
        known = [row for row in published.results(kind) if arxiv in (None, row["arxiv"])]
        matches = [row for row in known if _belongs(row, settings)]
        if matches:
            return matches
    return []


def _belongs(row: dict[str, Any], settings: Mapping[str, Any]) -> bool:
    initialization = chosen_initialization(
        settings.get("init") or DEFAULT, bool(settings.get("depth_scaled_init", False))
    )
    given = {**settings, "init": initialization.name, "positions": settings.get("positions") or positions.DEFAULT}
    recipe = {**_RECIPE, **row["training"]}
    if any(given.get(name, 0) != value for name, value in recipe.items()):
        return False
    width = row["embed_dim"]
    # all models of the papers have these proportions
    size = {
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": 4 * width,
        "encoder_attention_heads": width // 64,
        "decoder_attention_heads": width // 64,
        "share_all_embeddings": True,
    }
    schemes = [{"residual": residual, **size} for residual in row["residual"]]
    if all(checkpoints.differing_settings(scheme, settings) for scheme in schemes):
        return False
    unique = None if row["layer_sharing"] == NO_SHARING else row["unique_layers"]
    layers = {f"{stack}_layers": row["layers"] for stack in STACKS}
    sets = {f"{stack}_unique_layers": unique for stack in STACKS}
    theirs = plan_of_checkpoint({"layer_sharing": row["layer_sharing"], **layers, **sets})
    ours = plan_of_checkpoint(settings)
    # The names of the strategies may differ: with one parameter set, for instance, all of them are the same model.
    return len(theirs.stacks) == len(ours.stacks) and all(
        their.sharing.is_like(our.sharing) for their, our in zip(theirs.stacks, ours.stacks, strict=True)
    )

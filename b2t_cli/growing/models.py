"""Models of every kind without their data, and whether two of them compute the same."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from torch import Tensor, nn

from b2t_common.errors import InputError
from b2t_fairseq.building import build_without_data

PADDING = 1
# Both models compute the same operations, so their numbers differ by rounding at most.
_TOLERANCE = 1e-5
_FRAMES = 40
_BANDS = re.compile(r"decoder\.embed_tokens\.embeddings\.\d+\.0\.weight")


def vocabulary_sizes(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the numbers of symbols of the source and of the target dictionary, equal ones if there is one dictionary.

    Raises:
        InputError: the model embeds characters, so that the words of its dictionary would be needed.
    """
    bands = [len(tensor) for name, tensor in weights.items() if _BANDS.fullmatch(name)]
    table = weights.get("decoder.embed_tokens.weight")
    if table is None and not bands:
        raise InputError("--character-embeddings: its embedding depends on the words, so the model does not grow")
    target = sum(bands) if table is None else len(table)
    source = weights.get("encoder.embed_tokens.weight")
    return (target if source is None else len(source)), target


def build(settings: Mapping[str, Any], sizes: tuple[int, int]) -> nn.Module:
    """Return a new model with dictionaries without words.

    Args:
        settings: flags of the model.
        sizes: as :func:`vocabulary_sizes` returns them.

    Raises:
        InputError: the settings contradict each other.
    """
    name = settings.get("arch") or settings.get("_name")
    if name not in ARCH_MODEL_REGISTRY:
        raise InputError(f"its model {name} is not known here; load the code that registers it")
    return build_without_data(settings, *sizes, model_class=ARCH_MODEL_REGISTRY[name])


def compare(grown: nn.Module, trained: nn.Module) -> str:
    """Return the sentence that both models compute the same.

    Raises:
        InputError: they do not.
    """
    batch = _batch(trained)
    ours, theirs = (_log_probabilities(model, batch) for model in (grown, trained))
    difference = (ours - theirs).abs().max().item()
    if not difference <= _TOLERANCE:
        raise InputError(
            f"the log-probabilities of the untied model differ from those of the trained one by {difference:.2g}, so "
            "nothing is written; has the training diverged?"
        )
    return f"checked: log-probabilities of {ours.size(0)} tokens are those of the trained model within {difference:.1e}"


def _batch(model: Any) -> dict[str, Tensor]:
    """Return random sentences, or features, with padding, as the model's forward takes them."""
    generator = torch.Generator().manual_seed(1)

    def text(symbols: int) -> Tensor:
        return torch.randint(4, max(5, symbols), (3, 9), generator=generator)

    previous = text(len(model.decoder.dictionary))
    previous[:, 0], previous[1, 5:] = 2, PADDING
    if not hasattr(model, "encoder"):
        return {"src_tokens": previous}
    if getattr(model.encoder, "embed_tokens", None) is None:
        width = model.encoder.subsample.conv_layers[0].in_channels
        source = torch.randn(3, _FRAMES, width, generator=generator)
        lengths = torch.tensor([_FRAMES, _FRAMES - 7, _FRAMES - 20])
    else:
        source = text(len(model.encoder.dictionary))
        source[0, :4] = PADDING
        lengths = source.ne(PADDING).sum(dim=1)
    return {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": previous}


@torch.no_grad()
def _log_probabilities(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the log-probabilities in float32 of all tokens but padding, ``(tokens, vocabulary)``."""
    dtype = next(model.parameters()).dtype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about the types of fairseq's masks
        output = model.float().eval()(**batch)
        log_probabilities = model.get_normalized_probs(output, log_probs=True)
    model.to(dtype)
    tokens = batch.get("prev_output_tokens", batch["src_tokens"])
    return log_probabilities[tokens.ne(PADDING)]

"""The models that training_speed.py compares."""

from __future__ import annotations

from dataclasses import dataclass

import trainers

BASELINE = "fairseq transformer"
POST_LN = "--residual post_ln"
B2T = "--residual b2t"


@dataclass(frozen=True)
class Size:
    """The depth N and the width of a model, and how this plugin's model of that size shares its M layers."""

    layers: int
    sharing: str | None = None
    unique_layers: int | None = None
    widths: int = 1  # times the width of the others

    def ours(self, layers: int) -> dict[str, list[str]]:
        """Return this plugin's models with ``layers`` layers instead of N, and M in proportion: name to flags."""
        if self.sharing is None:
            return {name: name.split() for name in (POST_LN, B2T)}
        unique = str(max(1, self.unique_layers * layers // self.layers))
        flags = [*POST_LN.split(), "--layer-sharing", self.sharing]
        flags += ["--encoder-unique-layers", unique, "--decoder-unique-layers", unique]
        return {f"{POST_LN} --layer-sharing {self.sharing}, M={unique}": flags}


SIZES = {
    "6l": Size(6),
    "18l": Size(18),
    "shared_12": Size(12, "cycle_rev", 6),
    "shared_18": Size(18, "cycle_rev", 6),
    "universal": Size(6, "sequence", 1, widths=2),
}


def models(size: Size, layers: int | None, width: int, device: str) -> dict[str, list[str]]:
    """Return all models of a size, fairseq's first: name to flags.

    Args:
        size: one of ``SIZES``.
        layers: layers of encoder and of decoder, ``None`` for the size's own.
        width: embedding dimension of the sizes that are not wider than others.
        device: ``cpu`` or ``cuda``.
    """
    layers = layers or size.layers
    # tensor cores want dimensions that are multiples of 8
    multiple = ["--required-batch-size-multiple", "8" if device == "cuda" else "1"]

    def model(arch: str) -> list[str]:
        return multiple + trainers.model_flags(arch, layers, size.widths * width, dropout=0.1)

    found = {BASELINE: model("transformer") + trainers.fairseqs_flags(device)}
    for name, flags in size.ours(layers).items():
        found[name] = model("b2t_transformer") + flags + trainers.our_flags(device)
    return found

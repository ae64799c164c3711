"""The models that training_speed compares."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import trainers

BASELINE = "fairseq transformer"
POST_LN = "--residual post_ln"
B2T = "--residual b2t"


@dataclass(frozen=True)
class Size:
    """The size of a model, and how this plugin's model of that size shares layers.

    Attributes:
        layers: depth N of the encoder, and of the decoder.
        sharing: the strategy, ``None`` without sharing.
        unique_layers: number M of parameter sets.
        width_factor: width of the model divided by the width of the other sizes.
    """

    layers: int
    sharing: str | None = None
    unique_layers: int | None = None
    width_factor: int = 1

    def ours(self, layers: int) -> dict[str, list[str]]:
        """Return the flags of this plugin's models by name; they have ``layers`` instead of N, and M in proportion."""
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
    "universal": Size(6, "sequence", 1, width_factor=2),
}


def models(size: Size, layers: int | None, width: int, device: str) -> dict[str, list[str]]:
    """Return the flags of all models of a size by name, fairseq's model first.

    Args:
        size: one of ``SIZES``.
        layers: layers of the encoder, and of the decoder; ``None`` for the size's own.
        width: embedding dimension of all sizes but ``universal``.
        device: ``cpu`` or ``cuda``.
    """
    layers = layers or size.layers
    # tensor cores need dimensions that are multiples of 8
    multiple = ["--required-batch-size-multiple", "8" if device == "cuda" else "1"]

    def model(arch: str) -> list[str]:
        return multiple + trainers.model_flags(arch, layers, size.width_factor * width, dropout=0.1)

    compared = {BASELINE: model("transformer") + trainers.fairseqs_flags(device)}
    for name, flags in size.ours(layers).items():
        compared[name] = model("b2t_transformer") + flags + trainers.our_flags(device)
    return compared

"""The numbers in tests/golden, which the papers' own releases computed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.sequence_generator import SequenceGenerator
from helpers import ROOT

GOLDEN = ROOT / "tests/golden"
RATIOS = ("attention_ratio_change", "self_ratio_change", "encoder_ratio_change", "fc_ratio_change")


class Golden:
    """What was recorded of one model of a paper's release: arrays by name, and other values in ``meta``."""

    def __init__(self, name: str) -> None:
        self.meta = json.loads((GOLDEN / f"{name}.json").read_text())
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            self.arrays = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        self.dictionary = Dictionary()
        for symbol in self.meta["dictionary"][4:]:
            self.dictionary.add_symbol(symbol)
        self.task = SimpleNamespace(source_dictionary=self.dictionary, target_dictionary=self.dictionary)

    def __getitem__(self, key: str) -> torch.Tensor:
        return self.arrays[key]

    def groups(self) -> dict[str, list[str]]:
        """Return the release's tied parameters, each group under its first name, by today's names."""
        groups = {}
        for first, *aliases in self.meta["tied_parameters"]:
            for part in "qkv" if "in_proj_" in first else [""]:
                names = [name.replace("in_proj_", f"{part}_proj.") for name in (first, *aliases)]
                groups[names[0]] = names
        return groups

    def state(self, prefix: str = "state/") -> dict[str, torch.Tensor]:
        """Return parameters (or gradients) under today's names, tied ones under each of their names."""
        stored = {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}
        for first, *aliases in self.meta["tied_parameters"]:
            for alias in aliases:
                if first in stored:
                    stored[alias] = stored[first]
        state = {}
        for name, tensor in stored.items():
            layer, _, ratio = name.rpartition(".")
            if ratio in RATIOS:
                # Omega has a row for each sub-layer, in this order.
                kinds = [kind for kind in RATIOS if f"{layer}.{kind}" in stored]
                state[f"{layer}.residual.omega"] = torch.stack([stored[f"{layer}.{kind}"] for kind in kinds])
            elif "in_proj_" in name:
                for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                    state[name.replace("in_proj_", f"{part}_proj.")] = chunk.clone()
            else:
                state[name] = tensor
        return state

    def batch(self) -> dict:
        """Return the recorded batch as fairseq collates it."""
        return {
            "id": self["batch/id"],
            "target": self["batch/target"],
            "net_input": {
                "src_tokens": self["batch/src_tokens"],
                "src_lengths": self["batch/src_lengths"],
                "prev_output_tokens": self["batch/prev_output_tokens"],
            },
        }


def release_loss(logits: torch.Tensor, target: torch.Tensor, padding: int = 1) -> torch.Tensor:
    """Return the releases' label-smoothed loss, summed over target tokens.

    It is 0.9 times the negative log-likelihood plus 0.1 times the mean over all symbols.
    """
    log_probs = torch.log_softmax(logits, dim=-1)
    nll = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    smooth = -log_probs.mean(dim=-1)
    return (0.9 * nll + 0.1 * smooth)[target != padding].sum()


def translate(model, dictionary: Dictionary, batch: dict, beam: int) -> list[list[dict]]:
    """Return the hypotheses of fairseq's own generator with the settings of the recordings."""
    generator = SequenceGenerator(
        [model], dictionary, beam_size=beam, max_len_a=0, max_len_b=12, min_len=1, len_penalty=0.6
    )
    return generator.generate([model], batch)

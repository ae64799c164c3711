"""Small models, batches and golden numbers for the tests."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.sequence_generator import SequenceGenerator

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"

SMALL = {
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "dropout": 0.0,
    "share_all_embeddings": True,
}


SMALL_LM = {
    "decoder_embed_dim": 16,
    "decoder_ffn_embed_dim": 32,
    "decoder_attention_heads": 4,
    "decoder_layers": 6,
    "dropout": 0.0,
    "share_decoder_input_output_embed": True,
}


def make_dictionary(num_words: int = 20) -> Dictionary:
    """Return a dictionary of ``num_words`` words after fairseq's four special symbols."""
    dictionary = Dictionary()
    for word in range(num_words):
        dictionary.add_symbol(f"w{word:02d}")
    return dictionary


def make_task(num_words: int = 20) -> SimpleNamespace:
    """Return what ``build_model`` reads of a translation task."""
    dictionary = make_dictionary(num_words)
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


def make_model(arch: str = "b2t_transformer", task=None, seed: int = 1, **overrides):
    """Build a small model; keywords override ``SMALL``.  ``arch='transformer'`` builds fairseq's own."""
    return _build(arch, {**SMALL, **overrides}, task, seed)


def make_lm(arch: str = "b2t_transformer_lm", task=None, seed: int = 1, **overrides):
    """Build a small language model; keywords override ``SMALL_LM``."""
    return _build(arch, {**SMALL_LM, **overrides}, task, seed)


def _build(arch: str, settings: dict, task, seed: int):
    args = argparse.Namespace(arch=arch, **settings)
    ARCH_CONFIG_REGISTRY[arch](args)
    torch.manual_seed(seed)
    return ARCH_MODEL_REGISTRY[arch].build_model(args, task or make_task())


def randomize(model, seed: int = 0):
    """Overwrite every parameter, norms and biases too, so that no symmetry hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    # without norms a deep stack would overflow
    scale = 0.3 if any(isinstance(module, torch.nn.LayerNorm) for module in model.modules()) else 0.1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if parameter.dim() == 1:
                parameter.add_(0.5)
    return model


def make_batch(dictionary: Dictionary | None = None, seed: int = 0, padding: bool = True) -> dict:
    """Return fairseq's batch of 3 sentence pairs: source padded on the left, target on the right."""
    dictionary = dictionary or make_dictionary()
    generator = torch.Generator().manual_seed(seed)
    lengths = [(5, 6), (7, 4), (3, 8)] if padding else [(6, 6)] * 3

    def sentence(length: int) -> torch.Tensor:
        words = torch.randint(4, len(dictionary), (length - 1,), generator=generator)
        return torch.cat([words, torch.tensor([dictionary.eos()])])

    pairs = [(sentence(src), sentence(tgt)) for src, tgt in lengths]
    dataset = LanguagePairDataset(
        [src for src, _ in pairs],
        [len(src) for src, _ in pairs],
        dictionary,
        [tgt for _, tgt in pairs],
        [len(tgt) for _, tgt in pairs],
        dictionary,
        shuffle=False,
    )
    return dataset.collater([dataset[i] for i in range(len(pairs))])


def make_lm_batch(dictionary: Dictionary | None = None, seed: int = 0) -> dict:
    """Return a language model's batch of 3 sentences, padded on the right, that start with the end of a sentence."""
    batch = make_batch(dictionary, seed)
    tokens = batch["net_input"]["prev_output_tokens"]
    net_input = {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(dim=1)}
    return {"id": batch["id"], "target": batch["target"], "net_input": net_input}


def step_by_step_logits(model, batch: dict) -> torch.Tensor:
    """Return the logits of decoding one token at a time, ``(batch, tgt_len, vocabulary)``."""
    net_input = batch["net_input"]
    encoder_out, tokens = None, net_input["src_tokens"]
    if hasattr(model, "encoder"):
        encoder_out, tokens = model.encoder(tokens, net_input["src_lengths"]), net_input["prev_output_tokens"]
    state, steps = {}, []
    for step in range(tokens.size(1)):
        logits, _ = model.decoder(tokens[:, : step + 1], encoder_out=encoder_out, incremental_state=state)
        steps.append(logits)
    return torch.cat(steps, dim=1)


def translate(model, dictionary: Dictionary, batch: dict, beam: int) -> list[list[dict]]:
    """Return the hypotheses of fairseq's own generator under the settings of the golden files."""
    generator = SequenceGenerator(
        [model], dictionary, beam_size=beam, max_len_a=0, max_len_b=12, min_len=1, len_penalty=0.6
    )
    return generator.generate([model], batch)


RATIOS = ("attention_ratio_change", "self_ratio_change", "encoder_ratio_change", "fc_ratio_change")


class Golden:
    """Numbers recorded from one configuration of a paper's own release."""

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
                # one row for each sub-layer, in this order
                kinds = [kind for kind in RATIOS if f"{layer}.{kind}" in stored]
                state[f"{layer}.residual.omega"] = torch.stack([stored[f"{layer}.{kind}"] for kind in kinds])
            elif "in_proj_" in name:
                for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                    state[name.replace("in_proj_", f"{part}_proj.")] = chunk.clone()
            else:
                state[name] = tensor
        return state

    def batch(self) -> dict:
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
    """The releases' label-smoothed loss: 0.9 nll + 0.1 mean over all symbols, summed over target tokens."""
    log_probs = torch.log_softmax(logits, dim=-1)
    nll = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    smooth = -log_probs.mean(dim=-1)
    return (0.9 * nll + 0.1 * smooth)[target != padding].sum()

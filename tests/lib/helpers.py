"""Small translation models and batches, and where the project lies."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

ROOT = Path(__file__).resolve().parents[2]

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


def make_dictionary(num_words: int = 20) -> Dictionary:
    """Return a dictionary of ``num_words`` words after fairseq's four special symbols."""
    dictionary = Dictionary()
    for word in range(num_words):
        dictionary.add_symbol(f"w{word:02d}")
    return dictionary


def make_task(num_words: int = 20) -> SimpleNamespace:
    """Return a stand-in for a translation task, with what ``build_model`` reads of it."""
    dictionary = make_dictionary(num_words)
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


def make_model(arch: str = "b2t_transformer", task=None, seed: int = 1, **overrides):
    """Build a small model; keywords override ``SMALL``.  ``arch='transformer'`` builds fairseq's own."""
    return build(arch, {**SMALL, **overrides}, task, seed)


def model_settings(arch: str = "b2t_transformer", **overrides) -> argparse.Namespace:
    """Return all settings of the model that :func:`make_model` builds."""
    return fill(arch, {**SMALL, **overrides})


def fill(arch: str, settings: dict) -> argparse.Namespace:
    """Return settings with the others of an architecture filled in."""
    args = argparse.Namespace(arch=arch, **settings)
    ARCH_CONFIG_REGISTRY[arch](args)
    return args


def build(arch: str, settings: dict, task=None, seed: int = 1):
    """Build a model of an architecture whose other settings are the architecture's."""
    args = fill(arch, settings)
    torch.manual_seed(seed)
    return ARCH_MODEL_REGISTRY[arch].build_model(args, task or make_task())


def randomize(model, seed: int = 0):
    """Overwrite every parameter with random numbers, norms and biases too, so that no symmetry hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    # Without norms larger numbers would overflow in a deep stack.
    scale = 0.3 if any(isinstance(module, torch.nn.LayerNorm) for module in model.modules()) else 0.1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if parameter.dim() == 1:
                parameter.add_(0.5)
    return model


def make_batch(dictionary: Dictionary | None = None, seed: int = 0, padding: bool = True) -> dict:
    """Return a batch of 3 sentence pairs as fairseq collates it: sources padded on the left, targets on the right."""
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

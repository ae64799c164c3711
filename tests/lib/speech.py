"""Small models for speech to text, and batches of synthetic features."""

import argparse
from types import SimpleNamespace

import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from helpers import make_dictionary

MELS = 80
SMALL = {
    "conv_channels": 16,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "dropout": 0.0,
}


def make_speech_task(num_words=20):
    """Return a stand-in for fairseq's speech task, with what ``build_model`` reads of it."""
    return SimpleNamespace(source_dictionary=None, target_dictionary=make_dictionary(num_words))


def make_speech_model(arch="b2t_s2t_transformer", task=None, seed=1, **overrides):
    """Build a small model; keywords override ``SMALL`` and the settings that fairseq's task would make."""
    given = {"input_feat_per_channel": MELS, "input_channels": 1, "max_source_positions": 100, **SMALL, **overrides}
    args = argparse.Namespace(arch=arch, max_target_positions=50, **given)
    ARCH_CONFIG_REGISTRY[arch](args)
    torch.manual_seed(seed)
    return ARCH_MODEL_REGISTRY[arch].build_model(args, task or make_speech_task())


def make_speech_batch(padding=True, seed=0):
    """Return a batch of 3 utterances as fairseq collates it, the longest first.

    Features are (batch, frames, MELS) with zeros as padding, texts (batch, tgt_len).
    """
    generator = torch.Generator().manual_seed(seed)
    frames = torch.tensor([41, 33, 18] if padding else [40] * 3)
    features = torch.randn(3, int(frames.max()), MELS, generator=generator)
    target = torch.ones(3, 8, dtype=torch.long)
    for utterance, length in enumerate((8, 4, 6) if padding else (7, 7, 7)):
        features[utterance, frames[utterance] :] = 0
        target[utterance, : length - 1] = torch.randint(4, 24, (length - 1,), generator=generator)
        target[utterance, length - 1] = 2
    # The decoder's input is the text after its end symbol, padded on the right.
    prev = torch.cat([torch.full((3, 1), 2), target.masked_fill(target == 2, 1)[:, :-1]], dim=1)
    net_input = {"src_tokens": features, "src_lengths": frames, "prev_output_tokens": prev}
    return {"net_input": net_input, "target": target, "target_lengths": (target != 1).sum(1)}

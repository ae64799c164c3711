"""Small language models, their batches and their settings."""

from fairseq.data import Dictionary
from helpers import build, make_batch

SMALL_LM = {
    "decoder_embed_dim": 16,
    "decoder_ffn_embed_dim": 32,
    "decoder_attention_heads": 4,
    "decoder_layers": 6,
    "dropout": 0.0,
    "share_decoder_input_output_embed": True,
}


def make_lm(arch: str = "b2t_transformer_lm", task=None, seed: int = 1, **overrides):
    """Build a small language model; keywords override ``SMALL_LM``."""
    return build(arch, {**SMALL_LM, **overrides}, task, seed)


def make_lm_batch(dictionary: Dictionary | None = None, seed: int = 0) -> dict:
    """Return a language model's batch of 3 sentences, padded on the right, that start with the end of a sentence."""
    batch = make_batch(dictionary, seed)
    tokens = batch["net_input"]["prev_output_tokens"]
    net_input = {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(dim=1)}
    return {"id": batch["id"], "target": batch["target"], "net_input": net_input}


ADAPTIVE = {
    "adaptive_input": True,
    "adaptive_input_cutoff": "8,16",
    "adaptive_softmax_cutoff": "8,16",
    "tie_adaptive_weights": True,
    "share_decoder_input_output_embed": False,
}
TIED_PROJECTIONS = {**ADAPTIVE, "tie_adaptive_proj": True, "adaptive_softmax_dropout": 0.1}
CHARACTERS = {"character_embeddings": True, "share_decoder_input_output_embed": False}


def decoder_sharing(strategy, sets=2):
    """Return the settings that share a decoder's layers."""
    return {"layer_sharing": strategy, "decoder_unique_layers": sets} if strategy != "none" else {}

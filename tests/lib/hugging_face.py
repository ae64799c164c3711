"""Models of this plugin written for Hugging Face's transformers, and compared with them."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers import make_batch, make_model, make_task, model_settings, randomize
from safetensors.torch import save
from searching import WORDS, make_sentences, search

from b2t_cli.conversion.hugging_face import conversion
from b2t_cli.conversion.hugging_face.folder import json_bytes, new_folder

DEPTHS = {"encoder_layers": 4, "decoder_layers": 4}
SETS = {"encoder_unique_layers": 2, "decoder_unique_layers": 2}


def model_and_state(**flags):
    """Return a small model with random numbers everywhere, and what a checkpoint of it holds."""
    model = randomize(make_model(task=make_task(WORDS), **DEPTHS, **flags)).eval()
    return model, state_of(model, **flags)


def state_of(model, **flags):
    """Return what a checkpoint of a model of these flags holds."""
    settings = {"residual": "b2t", "layer_sharing": "none", **vars(model_settings(**DEPTHS, **flags))}
    return {"cfg": {"model": settings, "task": {"_name": "translation"}}, "model": model.state_dict()}


def write_model(state, folder: Path, target: str = "transformers"):
    """Write the folder of a model, without a tokenizer; return the model of transformers."""
    files = conversion.model_files(state, target)
    contents = {
        "config.json": json_bytes(files.config),
        "generation_config.json": json_bytes(files.generation),
        "model.safetensors": save(files.tensors, metadata={"format": "pt"}),
        **files.code,
    }
    with new_folder(folder, contents) as unfinished:
        return files.load(unfinished)


def written(folder: Path, target: str = "transformers", **flags):
    """Return a small model of this plugin and the same model of transformers."""
    model, state = model_and_state(**flags)
    return model, write_model(state, folder, target)


def assert_same_logits(model, other, tolerance=1e-5):
    """Check the logits of sentences of several lengths, padded on the side that fairseq pads."""
    batch = make_batch()
    source, previous = batch["net_input"]["src_tokens"], batch["net_input"]["prev_output_tokens"]
    with torch.no_grad():
        ours, _ = model(**batch["net_input"])
        inputs = {"input_ids": source, "attention_mask": source.ne(1).long(), "decoder_input_ids": previous}
        # FSMT hides later words only if it keeps no keys and values
        theirs = other(**inputs, use_cache=False).logits
    is_token = previous != 1
    assert (ours - theirs)[is_token].abs().max() < tolerance * ours.abs().max().clamp(min=1)


def assert_same_translations(model, other, beam, lenpen, max_len, compare=lambda best: True):
    """Check the best translations and their scores; return how many the maximum length does not end.

    Args:
        model: this plugin's model.
        other: that of transformers.
        beam: number of hypotheses.
        lenpen: length penalty.
        max_len: the most symbols without the end, as fairseq counts them.
        compare: tells of each best hypothesis of this plugin whether it is compared.
    """
    batch = make_sentences()
    settings = {"max_len_a": 0, "max_len_b": max_len, "lenpen": lenpen}
    ours = [found[0] for found in search(model, batch, beam=beam, **settings)]
    source = batch["net_input"]["src_tokens"]
    theirs = other.generate(
        input_ids=source,
        attention_mask=source.ne(1).long(),
        num_beams=beam,
        length_penalty=lenpen,
        max_new_tokens=max_len + 1,
        return_dict_in_generate=True,
        output_scores=True,
    )
    for row, (best, tokens) in enumerate(zip(ours, theirs.sequences.tolist(), strict=True)):
        length = len(best["tokens"]) + 1
        if compare(best):
            assert tokens[:length] == [2, *best["tokens"].tolist()]
            assert set(tokens[length:]) <= {1}
            assert beam == 1 or abs(theirs.sequences_scores[row].item() - best["score"].item()) < 1e-4
    return sum(len(best["tokens"]) <= max_len for best in ours)
